"""Each modality in turn hidden from most patients."""

import pytest

from remind import groups
from remind.errors import UserError
from remind_studies.cells.runners import run
from remind_studies.results.measures import Scope, examine, measure
from tests.builders.studies import plan, request


def test_a_panel_per_modality_with_the_measures_of_having_and_lacking():
    of = request("softmoe, remind")
    names = of.cohort.schema.names
    panels = plan("extreme", of)
    assert [panel.name for panel in panels] == list(names)
    for bit, panel in enumerate(panels):
        assert panel.options == {"hide": names[bit], "share": 0.8}
        assert panel.measures == (f"available:{bit}", f"absent:{bit}")
        assert [arm.name for arm in panel.arms if not arm.runner] == [
            "softmoe",
            "remind",
            "local remind",
            "pooled remind",
        ]
        assert panel.reference == "remind"


def test_chosen_modalities_and_share():
    of = request()
    first, *_, last = of.cohort.schema.names
    panels = plan(f"extreme(share = 0.5, modalities = '{last}, {first}')", of)
    assert [panel.name for panel in panels] == [last, first]
    assert all(panel.options["share"] == 0.5 for panel in panels)
    assert panels[0].title.startswith("50% of the patients with")


def test_who_has_nothing_else_is_counted():
    of = request()
    alone = [int((of.cohort.groups_N == 1 << bit).sum()) for bit in range(len(of.cohort.schema.names))]
    assert any(alone)
    for number, panel in zip(alone, plan("extreme", of), strict=True):
        assert (f"; {number} who have nothing else keep it" in panel.title) == bool(number)


@pytest.mark.parametrize(
    ("options", "words"),
    [("modalities = 'x'", "no modality 'x' in cohort synthetic-fprm; there are M1"), ("share = 0", "greater than 0")],
)
def test_mistakes(options, words):
    with pytest.raises(UserError, match=words):
        plan(f"extreme({options})", request())


def test_one_modality_cannot_be_hidden():
    with pytest.raises(UserError, match="has one modality"):
        plan("extreme", request(**{"synthetic.law": "independent", "synthetic.missing": "0.1"}))


def test_a_run_hides_it_from_all_parts_and_measures_both_kinds_of_patients(tmp_path):
    of = request()
    name = of.cohort.schema.names[3]
    (panel,) = plan(f"extreme(modalities = '{name}', share = 0.9)", of)
    result = run(panel.cell(panel.arms[0], of.common, 0), tmp_path)
    having = [
        sum(n for k, n in counts.items() if k >> 3 & 1) for counts in (result.counts, groups.counts(of.cohort.groups_N))
    ]
    shares = [
        have / sum(counts.values())
        for have, counts in zip(having, (result.counts, groups.counts(of.cohort.groups_N)), strict=True)
    ]
    assert shares[0] < 0.35 * shares[1]
    model = examine({s: {k: e.value() for k, e in own.items()} for s, own in result.outcomes[0].test.items()})
    scope = Scope(frozenset(), frozenset(model.groups), frozenset(model.sites))
    assert all(measure(m, model, scope)["accuracy"] is not None for m in panel.measures)
