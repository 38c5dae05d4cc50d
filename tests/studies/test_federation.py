"""Numbers of hospitals, skew and participation: the content of each panel, and a run."""

import pytest

from remind.errors import UserError
from remind_studies.cells.runners import run
from tests.builders.studies import differences, plan, request


def by_name(panels):
    return {panel.name: panel for panel in panels}


def test_panels_and_arms():
    of = request()
    panels = by_name(plan("federation(sites = '2, 7', alpha = '0.1, 5', participation = '0.4, 1')", of))
    assert list(panels) == [
        "sites = 2", "sites = 7", "alpha = 0.1", "alpha = 5", "participation = 0.4", "participation = 1",
    ]  # fmt: skip
    assert [panel.clients for panel in panels.values()] == [2, 7, 3, 3, 3, 3]
    for panel in panels.values():
        assert [(arm.name, arm.anchor) for arm in panel.arms if not arm.runner] == [
            ("fedremind", False), ("lg", False), ("fedavg", False), ("local", True), ("pooled", True),
        ]  # fmt: skip
        assert panel.reference == "fedremind"
    assert differences(of, panels["sites = 7"], panels["sites = 7"].arms[0]) == {}
    alpha = panels["alpha = 0.1"].cell(panels["alpha = 0.1"].arms[0], of.common, 0).config
    assert (alpha.data.alpha, alpha.data.sites) == (0.1, "dirichlet")


def test_arms_differ_in_the_rule_and_what_it_needs():
    of = request()
    panel = plan("federation(rules = 'fedremind, fedavg, afl, fgdro_kl(mu = 0.5, beta = 0.1), local')", of)[0]
    assert {arm.name: differences(of, panel, arm) for arm in panel.arms if not arm.runner} == {
        "fedremind": {},
        "fedavg": {"method.rule": "fedavg", "federation.encoders": "shared"},
        "afl": {"method.rule": "afl", "method.objective": "erm"},
        "fgdro_kl(mu = 0.5, beta = 0.1)": {"method.rule": "fgdro_kl(mu = 0.5, beta = 0.1)", "method.objective": "erm"},
        "local": {"method.rule": "local"},
    }


def test_who_is_alone_or_pooled_takes_part_in_every_round():
    of = request()
    panels = by_name(plan("federation(sites = '', alpha = '', participation = '0.5, 1')", of))
    half, whole = panels["participation = 0.5"], panels["participation = 1"]
    for arm, same in zip(half.arms, whole.arms, strict=True):
        assert half.cell(arm, of.common, 0).config.federation.participation == (1.0 if arm.anchor else 0.5)
        assert (half.cell(arm, of.common, 0).key("") == whole.cell(same, of.common, 0).key("")) == arm.anchor


def test_a_cohort_with_hospitals_of_its_own_keeps_them_for_participation_and_draws_others_for_the_rest():
    of = request(own_hospitals=("a", "b", "c", "d"))
    panels = by_name(plan("federation(sites = '6', alpha = '1', participation = '0.5')", of))
    assert {name: panel.clients for name, panel in panels.items()} == {
        "sites = 6": 6, "alpha = 1": 4, "participation = 0.5": None,
    }  # fmt: skip
    assert [panel.settings.get("data.sites") for panel in panels.values()] == ["dirichlet", "dirichlet", None]


def test_other_methods_stand_beside_before_the_anchors():
    panel = plan("federation", request("remind, attention"))[0]
    assert [arm.name for arm in panel.arms if not arm.runner] == [
        "fedremind",
        "lg",
        "fedavg",
        "attention",
        "local",
        "pooled",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("sites = '1'", "sites: 1 hospitals for 400"),
        ("sites = '401'", "from 2 to 400"),
        ("sites = '2.5'", "sites: '2.5'"),
        ("alpha = '0'", "alpha: 0 is not above 0"),
        ("participation = '1.5'", "participation: 1.5 is not above 0 and at most 1"),
        ("rules = 'fedxyz'", "there is no 'fedxyz'"),
        ("sites = '', alpha = '', participation = ''", "nothing to vary"),
    ],
)
def test_mistakes(options, words):
    with pytest.raises(UserError, match=words):
        plan(f"federation({options})", request())


@pytest.mark.slow
def test_every_panel_runs_and_tests_the_same_patients(tmp_path):
    of = request()
    for panel in plan("federation(sites = '5', alpha = '0.3', participation = '0.4')", of):
        sizes = []
        for arm in panel.arms:
            result = run(panel.cell(arm, of.common, 0), tmp_path / panel.name.replace(" ", "") / arm.name)
            test = result.outcomes[0].test
            sizes.append({site: {k: e.count for k, e in own.items()} for site, own in test.items()})
            assert len(test) == panel.clients
        assert all(found == sizes[0] for found in sizes)
