"""results.json as a whole: missing, refused and given fields, and reading the file."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from remind.errors import UserError
from remind_studies.results import Results, Run
from remind_studies.study import Arm
from tests.builders.study_results import ARMS, COHORT, PANEL, PATIENTS, SKILLS, examined, study, summary
from tests.builders.study_runs import by_site, counts, draw, fold_of, outcome, result, study_runs


def test_missing_runs_are_named_and_leave_a_gap(runs):
    there = [run for run in runs if (run.arm, run.seed) not in {("plain", 3), ("remind", 0)}]
    found = study(there, missing={"compare / plain / seed 3": "out of memory", "other / run": "not of this study"})
    assert found.missing == ("compare / plain / seed 3: out of memory", "compare / remind / seed 0: no result")
    plain = summary(found.panels[0], "plain", "overall")
    assert (plain.n, [v is None for v in plain.values].index(True)) == (9, 3)
    assert {t.n for t in found.panels[0].tests if (t.arm, t.measure) == ("plain", "overall")} == {8}
    assert found.panels[0].groups == study(runs).panels[0].groups, "the other arms tell who was tested"


def test_a_study_without_a_single_run_is_still_a_file():
    found = study([])
    (empty,) = found.panels
    assert len(found.missing) == 30
    assert (empty.summaries, empty.tests, empty.best, empty.groups) == ((), (), (), ())
    assert [arm.name for arm in empty.arms] == list(SKILLS)


def test_an_arm_without_a_run_has_no_values_and_wins_nothing(runs):
    (found,) = study([run for run in runs if run.arm != "remind"]).panels
    assert summary(found, "remind", "overall").values == (None,) * 10
    assert {(t.difference, t.p, t.p_adjusted, t.n) for t in found.tests} == {(None, None, None, 0)}
    assert {one.arms for one in found.best} == {("plain",)}


def test_models_of_one_run_become_arms(runs):
    def twice(run: Run) -> Run:
        (one,) = run.result.outcomes
        models = tuple(one.model_copy(update={"name": name}) for name in ("nothing", "head", ""))
        return replace(run, result=run.result.model_copy(update={"outcomes": models, "facts": {"adapted to": 7.0}}))

    (many,) = study([twice(run) if run.arm == "remind" else run for run in runs]).panels
    names = ["plain", "remind, nothing", "remind, head", "remind", "pooled remind"]
    assert [arm.name for arm in many.arms] == names
    assert many.reference == "remind"
    (several,) = study(map(twice, runs)).panels
    assert [arm.anchor for arm in several.arms] == [False] * 6 + [True] * 3
    alone = replace(PANEL, arms=ARMS[1:2], reference="")
    one_arm = study([twice(run) for run in runs if run.arm == "remind"], [alone])
    (single,) = one_arm.panels
    assert [(fact.arm, fact.mean) for fact in one_arm.facts] == [("remind", 7.0)]
    assert [one.arm for one in single.traces] == ["nothing", "head", "remind"]
    assert [arm.name for arm in single.arms] == ["nothing", "head", "remind"]
    assert (single.reference, {t.against for t in single.tests}) == ("nothing", {"nothing"})
    assert {t.p for t in single.tests} == {1.0}, "they are the same model"


def test_arms_on_different_patients_are_refused(runs):
    elsewhere = outcome(draw(5, 90)).test
    with pytest.raises(UserError, match=r"panel 'compare', seed 4: 'plain' and 'remind' .* data\.\*"):
        study([examined(run, elsewhere) if (run.arm, run.seed) == ("remind", 4) else run for run in runs])


def test_runs_that_do_not_belong_are_refused(runs):
    with pytest.raises(ValueError, match="two runs"):
        study([*runs, runs[0]])
    with pytest.raises(ValueError, match="no arm 'other'"):
        study([*runs, replace(runs[0], arm="other")])


def test_a_given_split_is_one_fold(runs):
    whole = replace(COHORT, split_N=np.zeros(len(COHORT), dtype=np.int8))
    found = study(runs, cohort=whole)
    assert found.folds == 1
    assert {g.mask: g.tested for g in found.panels[0].groups} == {
        k: max(counts(PATIENTS.at(fold_of(PATIENTS, s // 5, 5) == s % 5)).get(k, 0) for s in range(10))
        for k in counts(PATIENTS)
    }


def test_more_classes_have_no_positives():
    patients = draw(2, 200, classes=3)
    cohort = replace(COHORT, schema=COHORT.schema.model_copy(update={"classes": ("a", "b", "c")}))
    (found,) = study(study_runs(patients, SKILLS, range(5)), cohort=cohort, seeds=range(5)).panels
    assert {g.positives for g in found.groups} == {None}
    assert summary(found, "remind", "overall").mean > 0.5


def test_groups_nobody_was_trained_on_are_tail():
    whole = draw(4, 300)
    train = whole.at(whole.group_N != 3)
    (found,) = study([Run("compare", "remind", 0, result(train, [outcome(whole)]))], seeds=[0]).panels
    held_out = {g.mask: g for g in found.groups}[3]
    assert (held_out.tail, held_out.ranked, held_out.train_n) == (True, True, 0.0)
    assert {g.mask: g.tail for g in found.groups}[1] is False


def test_traces_are_means_over_the_seeds_that_have_them(runs):
    (found,) = study([run for run in runs if run.seed in {0, 2}], seeds=[0, 2]).panels
    assert [one.arm for one in found.traces] == list(SKILLS)
    first, second, third = found.traces[0].rounds
    assert (first.round, first.stage, third.stage) == (0, 1, 2)
    assert first.weights == pytest.approx({3: 0.6, 1: 0.4})
    assert (first.gate_open, first.validation_log_loss) == ({}, None)
    assert second.gate_open == pytest.approx({3: 0.25})
    assert third.validation_log_loss == pytest.approx(0.5)


def test_a_study_of_costs_has_facts_and_no_scores():
    rng = np.random.default_rng(0)
    costs = {s: {"parameters": 1000.0, "ratio": float(rng.uniform(1, 2))} for s in range(3)}
    runs = [Run("compare", "remind", s, result(PATIENTS, [], s, facts=own)) for s, own in costs.items()]
    found = study(runs, seeds=range(4))
    assert (found.panels[0].summaries, found.panels[0].best) == ((), ())
    assert {(g.tested, g.positives, g.test_n) for g in found.panels[0].groups} == {(0, 0, 0.0)}
    parameters, ratio = found.facts
    assert (parameters.arm, parameters.name, parameters.values) == ("remind", "parameters", (1000.0,) * 3 + (None,))
    assert (parameters.mean, parameters.sd) == (1000.0, 0.0)
    assert ratio.mean == pytest.approx(np.mean([own["ratio"] for own in costs.values()]))


def test_settings_of_an_arm_stand_once_unless_panels_change_them(runs):
    arms = (Arm(name="plain", settings={"train.lr": 0.1}), Arm(name="remind", options={"hide": "note"}))
    panels = [
        replace(PANEL, arms=arms),
        replace(PANEL, name="second", arms=arms[:1], settings={"train.lr": 0.2}),
        replace(PANEL, name="third", arms=arms[1:]),
    ]
    found = study([], panels).settings
    assert found.common == {"train.lr": 0.001}
    assert found.arms == {
        "compare / plain": {"train.lr": 0.1},
        "second / plain": {"train.lr": 0.2},
        "remind": {"hide": "note"},
    }


def test_the_header_is_the_cohorts(runs):
    found = study(runs)
    assert found.cohort.patients == 60
    assert found.cohort.groups == len(np.unique(COHORT.groups_N))
    assert found.cohort.sites == 3
    assert (found.measure, found.least, found.folds, found.seeds) == ("mean_tail", 30, 5, tuple(range(10)))


def test_the_file_is_strict_json(runs):
    text = study(runs).to_json()

    def refuse(constant: str):
        raise AssertionError(constant)

    content = json.loads(text, parse_constant=refuse)
    with pytest.raises(UserError, match=r"mine\.json is not the results\.json of a study"):
        Results.from_json(json.dumps({**content, "more": 1}), "mine.json")
    with pytest.raises(UserError, match=r"mine\.json"):
        Results.from_json(text[:100], "mine.json")
    with pytest.raises(UserError, match="not as long"):
        Results.from_json(json.dumps({**content, "seeds": [0]}), "mine.json")
    content["panels"][0]["reference"] = "nobody"
    with pytest.raises(ValidationError, match="no arm 'nobody'"):
        Results.model_validate_json(json.dumps(content))


def test_federated_runs_and_pooled_patients_have_the_same_tables():
    """An arm whose patients lie in three hospitals, and the same scores in one hospital."""
    one_place = replace(PATIENTS, site_N=np.full(len(PATIENTS.site_N), "all"))
    assert len(by_site(one_place)) == 1
    three, one = (study(study_runs(p, SKILLS, range(5)), seeds=range(5)).panels[0] for p in (PATIENTS, one_place))
    assert three.groups == one.groups
    for federated, pooled in zip(three.summaries, one.summaries, strict=True):
        if "site" not in federated.measure:
            assert federated.values == pytest.approx(pooled.values)
    for ours, theirs in zip(three.by_group, one.by_group, strict=True):
        assert ours.values == pytest.approx(theirs.values)
        assert ours.pooled == pytest.approx(theirs.pooled)
