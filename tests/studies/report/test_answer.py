"""The answer agrees with the tests, for studies with a known truth and for studies without power."""

import json
import re

import pytest

from remind_studies.report.answer import Answer, answer, overall
from remind_studies.report.view import views
from remind_studies.results import Results
from remind_studies.tuning import Tuning
from tests.builders.study_reports import ARMS, study

RIVALS = [arm for arm in ARMS if arm != "remind"]


def of(results: Results) -> Answer:
    (view,) = views(results)
    return answer(view)


def changed(results: Results, change) -> Results:
    """The results with their JSON changed."""
    content = json.loads(results.to_json())
    change(content["panels"][0])
    return Results.from_json(json.dumps(content), "changed")


@pytest.mark.parametrize("metric", ["auroc", "log_loss"])
@pytest.mark.parametrize(
    ("gain", "spread", "verdict", "start"),
    [
        (0.08, 0.008, "best", "Yes: on the rare combinations remind is better than all 5 others, by 0.0"),
        (0.0, 0.0005, "tie", "A tie: on the rare combinations remind is equal to all 5 others, within ±0.005"),
        (0.0, 0.02, "open", "Not decided: on the rare combinations remind is neither shown to differ from "),
        (
            {"softmoe": 0.08},
            0.0005,
            "among the best",
            "Partly: on the rare combinations remind is better than softmoe; it is equal, within ±0.005, to ",
        ),
        (
            {"softmoe": 0.08},
            0.008,
            "open",
            "Not decided: on the rare combinations remind is better than softmoe; it is neither shown to differ from ",
        ),
        ({"groupdro": -0.08}, 0.008, "worse", "No: on the rare combinations groupdro does better than remind."),
        (
            {"softmoe": 0.08, "fedavg": -0.08},
            0.008,
            "worse",
            "No: on the rare combinations fedavg does better than remind.",
        ),
    ],
)
def test_finds_the_truth(metric, gain, spread, verdict, start):
    found = of(study(metric=metric, gain=gain, spread=spread))
    assert found.verdict == verdict
    assert found.sentence.startswith(start)


def test_names_value_difference_interval_seeds_and_patients():
    results = study(gain={"groupdro": -0.08}, spread=0.008)
    mean = {
        one.arm: one.mean for one in results.panels[0].summaries if (one.measure, one.metric) == ("mean_tail", "auroc")
    }
    test = next(t for t in results.panels[0].tests if (t.arm, t.measure) == ("groupdro", "mean_tail"))
    tail = [group for group in results.panels[0].groups if group.tail and group.ranked]
    first = of(results).numbers[0]
    assert f"remind reaches {mean['remind']:.3f}" in first
    assert f"groupdro, reaches {mean['groupdro']:.3f}" in first
    assert f"+{test.difference:.3f} [+{test.low:.3f},\u00a0+{test.high:.3f}]" in first
    assert f"10 seeds, {sum(group.tested for group in tail)} test patients in {len(tail)} tail groups" in first


def test_a_yardstick_is_no_rival():
    """However good the pooled anchor, the verdict is about methods."""
    results = study(gain={"pooled remind": -0.1, **dict.fromkeys(RIVALS, 0.08)}, spread=0.008)
    found = of(results)
    assert found.verdict == "best"
    assert "pooled remind" not in found.sentence
    assert any(re.search(r"pooled remind” \+0\.(0[89]|1)", line) for line in found.numbers)


@pytest.mark.parametrize("gain", [0.08, 0.0, {"groupdro": -0.08}])
def test_neither_the_order_of_arms_nor_the_direction_of_tests_matters(gain):
    results = study(gain=gain, spread=0.008)

    def turn(panel):
        panel["arms"].reverse()
        panel["summaries"].reverse()
        for test in panel["tests"]:
            test["arm"], test["against"] = test["against"], test["arm"]
            test["low"], test["high"] = -test["high"], -test["low"]
            test["difference"] *= -1

    turned, straight = of(changed(results, turn)), of(results)
    assert turned.sentence == straight.sentence
    assert turned.numbers[0] == straight.numbers[0]


def test_few_seeds_and_one_split_are_said():
    assert not of(study()).caveats[0].startswith("10 seeds")
    assert of(study(seeds=4)).caveats[0] == "4 seeds: a headline claim needs 10."
    assert not any("same patients" in line for line in of(study()).caveats)
    split = Results.from_json(study().to_json().replace('"folds": 5', '"folds": 1'), "split")
    assert any("same patients" in line for line in of(split).caveats)


def test_who_was_not_compared_is_said():
    def without(panel):
        for test in panel["tests"]:
            if test["arm"] == "fedavg":
                test.update(difference=None, low=None, high=None, p=None, p_adjusted=None, n=0)

    found = of(changed(study(gain=0.08, spread=0.008), without))
    assert found.sentence.startswith("Yes: on the rare combinations remind is better than all 4 others")
    assert "Not compared, because scores are missing: fedavg." in found.caveats


def test_groups_of_few_are_counted():
    unranked = [group for group in study().panels[0].groups if group.tail and not group.ranked]
    assert unranked
    assert any(line.startswith(f"{len(unranked)} of ") and "never ranked" in line for line in of(study()).caveats)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"gone": 1.0}, "no run of this table has ended"),
        ({"seeds": 1}, "too few seeds"),
        ({"arms": ("remind",)}, "nothing to compare"),
        ({"reference": ""}, "nothing to compare"),
    ],
)
def test_says_why_it_cannot_say(changes, why):
    found = of(study(**changes))
    assert found.verdict == "unknown"
    assert why in found.sentence


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tail": False}, "this cohort has no tail group"),
        ({"ranked": False}, "no tail group has 30 tested patients or more, 10 of each of two classes"),
    ],
)
def test_says_that_there_are_no_rare_combinations(change, why):
    def without(panel):
        for group in panel["groups"]:
            group.update(change)
        for one in panel["summaries"]:
            if one["measure"] == "mean_tail":
                one.update(values=[None] * 10, n=0, mean=None, sd=None, low=None, high=None)

    found = of(changed(study(), without))
    assert why in found.sentence
    assert found.numbers[0].startswith("AUROC, tail patients: remind reaches 0.")  # the next best that is known


def test_best_by_the_column_alone_is_told_from_certainty():
    """The marks of a column compare with its best mean, the tests with the reference: they may differ; it is said."""

    def only_groupdro(panel):
        for best in panel["best"]:
            best.update(first="groupdro", equal=[], open=[])

    found = of(changed(study(), only_groupdro))
    assert found.verdict == "worse"
    assert "remind is behind groupdro, the best mean, though no difference to remind remains sure" in found.sentence


def test_many_tables_are_counted():
    panels = tuple((f"sites = {n}", f"{n} sites") for n in (2, 5, 10))
    results = study(panels=panels)
    found = overall([(view, answer(view)) for view in views(results)])
    assert found is not None
    assert found.verdict == "open"
    same = "is neither shown to differ from all others nor shown to be equal to them"
    assert found.sentence == f"On the rare combinations remind {same} in all 3 tables."
    mixed = study(
        panels=panels[:2], arms_of={"sites = 5": ("remind", "groupdro")}, gain={"groupdro": -0.08}, spread=0.008
    )
    content = json.loads(mixed.to_json())
    content["panels"][0] = json.loads(study().to_json())["panels"][0]
    found = overall([(v, answer(v)) for v in views(Results.from_json(json.dumps(content), "mixed"))])
    assert found is not None
    assert found.verdict == "mixed"
    open_ = "is neither shown to differ from all others nor shown to be equal to them"
    assert f"{open_} in 1 of 2 tables and is behind another in 1 of 2 tables" in found.sentence


def test_a_caveat_of_some_tables_names_them_and_one_of_all_stands_once():
    panels = tuple((f"sites = {n}", f"{n} sites") for n in (2, 5, 10))
    content = json.loads(study(panels=panels).to_json())
    for panel, bound in zip(content["panels"], (0.2, 0.2, 0.001), strict=True):
        panel["auroc_bound"] = bound
    judged = [(v, answer(v)) for v in views(Results.from_json(json.dumps(content), "bounds"))]
    found = overall(judged)
    assert found is not None
    (bins,) = [text for text in found.caveats if "bins" in text]
    assert bins == "2 sites and 5 sites: the bins of the score histograms leave AUROC open by up to ±0.200."
    of_all = set.intersection(*(set(one.caveats) for _, one in judged))
    assert of_all <= set(found.caveats)


def test_a_study_of_costs_has_no_answer():
    results = study(scores=False, facts={"parameters": 5.0})
    assert overall([(view, answer(view)) for view in views(results)]) is None


def test_a_preset_is_not_untuned_on_the_cohort_that_it_was_chosen_on():
    def said(results: Results) -> bool:
        return any("defaults were chosen on validation patients of this cohort" in line for line in of(results).caveats)

    content = json.loads(study().to_json())
    for cohort, chosen_here in (("uci_heart4", True), ("my-cohort", False)):
        content["tuning"] = Tuning.none(()).described(cohort)
        assert said(Results.from_json(json.dumps(content), "example")) == chosen_here


def test_groups_that_are_left_out_are_counted_nowhere():
    """A mean covers them, so "0 test patients in 0 tail groups" would be wrong, and the right number would tell."""

    def leave_out(panel):
        panel["groups"] = [group for group in panel["groups"] if not group["tail"]]
        panel["withheld_groups"] = 3

    results = changed(study(gain=0.0, spread=0.02), leave_out)
    (view,) = views(results)
    assert view.ranked_tail.endswith("also of the groups that are left out here.")
    said = str(answer(view))
    assert "the groups that are left out here count too" in said
    assert "in 0 tail groups" not in said
