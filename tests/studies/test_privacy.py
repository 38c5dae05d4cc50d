"""The study of privacy: its panels, what it recommends, and what a guarantee leaves of a step."""

from typing import Any

import pytest

from remind.errors import UserError
from remind_studies.bench import bench
from remind_studies.cells.patients import hospitals
from remind_studies.cells.private import looks
from remind_studies.cells.runners import run
from remind_studies.report.markdown import markdown
from remind_studies.report.write import render
from remind_studies.results.format import Results
from remind_studies.studies.privacy import PLAIN, SETTINGS
from remind_studies.studies.private import OF_MODE, modes
from remind_studies.study import registry
from tests.builders.studies import LARGER, plan, request

COMMON = LARGER | {"synthetic.kinds": "table, table, table, table", "synthetic.standardise": "given"}


def panels(study="privacy", **changes):
    of = request(common=COMMON | changes)
    return of, {panel.name: panel for panel in plan(study, of)}


def test_a_panel_per_epsilon_and_cap_with_every_mode_that_the_config_knows():
    of, found = panels("privacy(epsilon = '8, 1', r-max = '1, 4')")
    assert list(found) == ["ε = 8", "ε = 1", "r_max = 1", "r_max = 4", SETTINGS]
    for name, epsilon in (("ε = 8", 8), ("ε = 1", 1), ("r_max = 4", 8)):
        panel = found[name]
        assert [arm.name for arm in panel.arms] == [PLAIN, *modes(3)]
        assert panel.reference == PLAIN
        configs = [panel.cell(arm, of.common, 0).config for arm in panel.arms]
        assert [c.privacy.mode for c in configs] == ["none", *modes(3)]
        assert configs[1].privacy.epsilon == epsilon
    (plain, private) = found["r_max = 4"].arms[:2]
    of_both = [found["r_max = 4"].cell(arm, of.common, 0).config for arm in (plain, private)]
    assert [c.dro.initial for c in of_both] == ["uniform", "uniform"]
    assert of_both[1].privacy.r_max == 4


def test_runs_without_a_guarantee_are_trained_once():
    of, found = panels()
    keys = {found[name].cell(found[name].arms[0], of.common, 0).key("") for name in ("ε = 8", "ε = 3", SETTINGS)}
    assert len(keys) == 1


def tried(mode, study="privacy", **changes):
    """Configs of what the panel of settings tries with a mode, by name without the mode; "" is the mode as given."""
    of, found = panels(study, **changes)
    arms = {arm.name: found[SETTINGS].cell(arm, of.common, 0).config for arm in found[SETTINGS].arms}
    assert {c.privacy.epsilon for name, c in arms.items() if name != PLAIN} == {8.0}
    assert len({str(config.flat()) for config in arms.values()}) == len(arms), "no run is trained for nothing"
    return {name.removeprefix(mode).removeprefix(", "): c for name, c in arms.items() if name.startswith(mode)}


def differing(config, whole):
    """What a setting changes, as factors where it was a number above 0 before."""
    pairs = {key: (value, whole.flat()[key]) for key, value in config.flat().items() if value != whole.flat()[key]}
    return {k: pytest.approx(v / w) if isinstance(v, int | float) and w else v for k, (v, w) in pairs.items()}


FASTER = {"train.lr": 10, "train.routing-lr": 10, "federation.max-update": 10}
HALF, TWICE = ({"train.warmup-rounds": f, "train.routing-rounds": f} for f in (0.5, 2))


def test_settings_differ_in_rates_rounds_weights_and_size():
    changes = {"train.batch": 8, "train.warmup-rounds": 4, "train.routing-rounds": 2, "model.width": 8}
    found = tried("site", **changes)
    more = FASTER | {"train.batch": 4}
    expected = {
        "": {},
        "lr × 10": FASTER,
        "rate × 4, lr × 10": more,
        "half the rounds, rate × 4, lr × 10": more | HALF,
        "twice the rounds, lr × 10": FASTER | TWICE,
        "D = 16 and E = 4, rate × 4, lr × 10": more | {"model.width": 2},
        "uniform λ and r_max = 4, rate × 4, lr × 10": more | {"dro.initial": "uniform", "privacy.r-max": 4},
    }
    assert {name: differing(config, found[""]) for name, config in found.items()} == expected
    found = tried("joint", **changes)
    expected = {
        "": {},
        "lr × 10": FASTER,
        "rate ÷ 4, lr × 10": FASTER | {"privacy.rate": 0.25},
        "half the rounds, lr × 10": FASTER | HALF,
        "twice the rounds, lr × 10": FASTER | TWICE,
        "D = 16 and E = 4, lr × 10": FASTER | {"model.width": 2},
        "uniform λ and r_max = 4, lr × 10": FASTER | {"dro.initial": "uniform", "privacy.r-max": 4},
    }
    assert {name: differing(config, found[""]) for name, config in found.items()} == expected


def test_learning_rates_that_are_high_already_stay():
    found = tried("joint", "privacy(r-max = '')", **{"train.lr": 0.01, "model.width": 16, "model.experts": 4})
    assert list(found) == ["", "rate ÷ 4", "half the rounds", "twice the rounds"], "nor a small model, nor weights"
    assert {config.train.lr for config in found.values()} == {0.01}


@pytest.mark.parametrize(
    ("given", "named", "rate"),
    [
        ({"privacy.rate": 0.2}, "rate × 4", 0.8),
        ({"privacy.rate": 0.5}, "rate ÷ 4", 0.125),
        ({"train.batch": 0}, "rate ÷ 4", 0.25),
    ],
)
def test_no_rate_above_1(given, named, rate):
    guarantee = {"privacy.mode": "site", "evaluation.calibration": "none"} if "privacy.rate" in given else {}
    found = tried("site", **guarantee, **given)
    assert [name for name in found if name.startswith("rate")] == [f"{named}, lr × 10"]
    assert found[f"{named}, lr × 10"].privacy.rate == pytest.approx(rate)


def test_without_a_panel_of_settings():
    _, without = panels("privacy(settings = false, r-max = '')")
    assert list(without) == ["ε = 8", "ε = 3", "ε = 1"]


@pytest.mark.parametrize("epsilon", ["0", "-1", "inf"])
def test_no_epsilon_of_nothing(epsilon):
    with pytest.raises(UserError, match=r"epsilon: .* is not a number above 0"):
        panels(f"privacy(epsilon = '{epsilon}')")


def test_a_cohort_that_fits_on_patients_is_refused_before_anything_runs():
    with pytest.raises(UserError, match="standardised by each hospital's own patients"):
        panels(**{"synthetic.standardise": "train"})


def test_settings_of_the_guarantee_hold_for_private_runs_alone():
    of, found = panels(**{"privacy.mode": "site", "privacy.delta": 1e-4, "evaluation.calibration": "none"})
    none, site = (found["ε = 3"].cell(arm, of.common, 0).config.privacy for arm in found["ε = 3"].arms[:2])
    assert (none.mode, none.delta) == ("none", 1e-5)
    assert (site.mode, site.delta, site.epsilon) == ("site", 1e-4, 3.0)


def facts(tmp_path, name, **changes):
    of, found = panels("privacy(epsilon = '8', r-max = '', settings = false)")
    (panel,) = found.values()
    cell = panel.cell(panel.arms[1].but("site", {"privacy.counts-noise": 0.5, **changes}), of.common, 0)
    return looks(cell.config, hospitals(cell), tmp_path / name)


def test_noise_takes_the_direction(tmp_path):
    quiet, loud = (facts(tmp_path, f"{n}", **{"privacy.noise": n}) for n in (1e-6, 100.0))
    assert quiet["cosine of a step"] > 0.2, "only clipped"
    assert quiet["cosine of a step"] <= 1 + 1e-9
    assert quiet["signal ÷ noise of a step"] > 100
    assert loud["cosine of a step"] < 0.02
    assert quiet["signal ÷ noise of a step"] == pytest.approx(1e8 * loud["signal ÷ noise of a step"], rel=1e-3)
    assert (quiet["σ"], loud["σ"]) == (1e-6, 100.0)
    assert 0 < quiet["rate"] <= 1


def test_without_clip_and_noise_it_is_the_same_step(tmp_path):
    free = facts(tmp_path, "free", **{"privacy.noise": 1e-12, "privacy.clip": 1e6})
    assert free["cosine of a step"] == pytest.approx(1, abs=1e-6)


def test_a_cell_without_a_guarantee_has_no_such_numbers(tmp_path):
    of, found = panels()
    panel = found["ε = 8"]
    assert run(panel.cell(panel.arms[0], of.common, 0), tmp_path).facts == {}


def test_two_hospitals_cannot_share_noise():
    assert modes(2) == ("site",)


def test_parts_alone_stand_beside_the_whole_model():
    of, found = panels("privacy(epsilon = '8', r-max = '', settings = false, parts = 'head+groups')")
    (panel,) = found.values()
    configs = {arm.name: panel.cell(arm, of.common, 0).config for arm in panel.arms}
    assert list(configs)[-2:] == ["no guarantee, head+groups alone", "site, head+groups alone"]
    assert {c.method.rule for c in list(configs.values())[-2:]} == {'adapt(parts = "head+groups")'}
    assert [c.privacy.mode for c in list(configs.values())[-2:]] == ["none", "site"]
    with pytest.raises(UserError, match="there is no part 'heads'"):
        panels("privacy(epsilon = '8', parts = 'heads')")


def test_what_each_guarantee_costs_is_said_in_a_sentence(monkeypatch):
    monkeypatch.setattr("remind_studies.studies.privacy.judge_all", lambda results, metric: results or None)
    of = request(common=COMMON)
    method, options = registry.choose("privacy(epsilon = '8, 1', r-max = '', settings = false)")
    study = method.build(options)
    found: Any = {("ε = 8", PLAIN): 0.9, ("ε = 8", "site"): 0.8512, ("ε = 1", PLAIN): 0.9, ("ε = 1", "joint"): 0.7}
    said = "ε = 8: no guarantee 0.900, site 0.851; ε = 1: no guarantee 0.900, joint 0.700"
    said = f"AUROC of all validation patients: {said}."
    assert study.advice(of, found) == said
    assert study.advice(of, {}) == ""


def test_what_is_recommended_may_be_among_the_runs_with_other_weights(monkeypatch):
    monkeypatch.setattr("remind_studies.studies.privacy.judge_all", lambda results, metric: results or None)
    of = request(common=COMMON)
    method, options = registry.choose("privacy(epsilon = '8', r-max = '2, 4')")
    study = method.build(options)
    found: Any = {(SETTINGS, PLAIN): 0.9, (SETTINGS, "site"): 0.7, ("r_max = 2", "site"): 0.8}
    said = study.advice(of, found)
    assert "(site, uniform λ and r_max = 2: 0.800, 0.900 without a guarantee)" in said
    assert 'dro.initial="uniform"' in said
    assert "privacy.r-max=2.0" in said
    assert "(site: 0.700, 0.900" in study.advice(of, found | {("r_max = 2", "site"): 0.6})
    assert "no guarantee:" not in study.advice(of, found | {("r_max = 2", PLAIN): 1.0})


@pytest.mark.slow
def test_a_study_says_what_it_recommends(tmp_path):
    shown = []
    settings = [f"{key}={value!r}".replace("'", '"') for key, value in COMMON.items()]
    path = bench(
        "privacy(epsilon = '1000', r-max = '')",
        cohort="synthetic",
        methods="",
        seeds="1",
        clients=2,
        run_config=settings,
        metric="auroc",
        tune=0,
        anchors=False,
        jobs=2,
        out=tmp_path / "out",
        command="remind bench privacy",
        say=lambda line: None,
        show=shown.append,
    )
    results = Results.from_json((path.parent / "results.json").read_bytes(), "results.json")
    assert results.advice.startswith("For ε = 1000, of the settings tried these have the best auroc")
    assert "-c '" in results.advice
    assert 'privacy.mode="site"' in results.advice
    assert "privacy.epsilon=1000" in results.advice
    assert shown == [markdown(results)]
    assert markdown(results).endswith(results.advice)
    assert "What this study asked" in render(results)
    assert "of all validation patients: ε = 1000: no guarantee 0." in results.advice
    assert {fact.name for fact in results.facts} == {"cosine of a step", "signal ÷ noise of a step", "σ", "rate"}


def run_of(name, folder):
    """The run of that arm; site and group → test patients."""
    of, found = panels("privacy(epsilon = '1000', r-max = '', settings = false)")
    (panel,) = found.values()
    (arm,) = (arm for arm in panel.arms if arm.name == name)
    result = run(panel.cell(arm, of.common, 0), folder)
    return result, {(site, k): e.count for site, own in result.outcomes[0].test.items() for k, e in own.items()}


@pytest.fixture(scope="module")
def without_a_guarantee(tmp_path_factory):
    return run_of(PLAIN, tmp_path_factory.mktemp("plain"))[1]


@pytest.mark.parametrize("mode", modes(3))
def test_runs_with_and_without_a_guarantee_are_tested_on_the_same_patients(
    mode, without_a_guarantee, tmp_path, monkeypatch
):
    monkeypatch.setitem(OF_MODE, mode, OF_MODE.get(mode, {}) | {"train.warmup-rounds": 1, "train.routing-rounds": 1})
    private, numbers = run_of(mode, tmp_path)
    assert numbers == without_a_guarantee
    assert set(private.facts) == {"cosine of a step", "signal ÷ noise of a step", "σ", "rate"}
