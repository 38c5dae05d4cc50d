"""results.json of made-up studies: the same bytes in any order, what is ranked, tested, missing, and refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from remind.config import SyntheticConfig
from remind.data.synthetic import generate
from remind.errors import UserError
from remind.federation.messages import Evaluation
from remind.metrics.scores import scores
from remind.metrics.statistics import merge
from remind_studies.results import Panel as PanelTable
from remind_studies.results import Results, Run, results
from remind_studies.results.measures import METRICS, USUAL, Scope, examine, measure
from remind_studies.results.statistics import holm, paired, tied_best
from remind_studies.study import Arm, Panel
from tests.studies.study_runs import by_site, counts, draw, fold_of, outcome, result, study_runs

COHORT = generate(SyntheticConfig(patients=60), 0)
PATIENTS = draw(0, 500)
SKILLS = {"plain": 0.5, "remind": 1.5, "pooled remind": 2.0}
ARMS = tuple(Arm(name=name, anchor=name.startswith("pooled")) for name in SKILLS)
PANEL = Panel(
    name="compare", title="Three methods", arms=ARMS, reference="remind", measures=("available:0", "absent:0")
)
MADE = {
    "command": "remind bench compare",
    "date": "2026-11-21 20:00",
    "seconds": 12.5,
    "machine": "2 × a processor",
    "python": "3.11.7",
    "torch": "2.15.0",
    "version": "0.1.0",
    "commit": "",
}


def study(runs, panels=(PANEL,), seeds=range(10), folds=5, cohort=COHORT, **changes) -> Results:
    fields = {
        "study": "compare",
        "title": "methods side by side",
        "metric": "auroc",
        "tuning": {"budget": 0, "text": "None.", "chosen": {}},
        "common": {"train.lr": 0.001},
        "missing": {},
        "made": MADE,
    }
    return results(cohort=cohort, panels=panels, runs=runs, seeds=seeds, folds=folds, **{**fields, **changes})


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return list(study_runs(PATIENTS, SKILLS, range(10)))


@pytest.fixture(scope="module")
def table(runs) -> PanelTable:
    return study(runs).panels[0]


def summary(table: PanelTable, arm: str, name: str, metric: str = "auroc"):
    (found,) = (s for s in table.summaries if (s.arm, s.measure, s.metric) == (arm, name, metric))
    return found


def turned_round(run: Run) -> Run:
    """The same run with everything in it that has no order the other way round."""
    (one,) = run.result.outcomes
    test = {site: dict(reversed(own.items())) for site, own in reversed(one.test.items())}
    flipped = {
        "outcomes": (one.model_copy(update={"test": test}),),
        "counts": dict(reversed(run.result.counts.items())),
    }
    return replace(run, result=run.result.model_copy(update=flipped))


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_runs_changes_no_byte(runs, seed):
    order = np.random.default_rng(seed).permutation(len(runs))
    expected = study(runs, common={"a": 1, "b": 2}).to_json()
    turned = [turned_round(runs[i]) for i in order]
    found = study(turned, seeds=tuple(reversed(range(10))), common={"b": 2, "a": 1}).to_json()
    again = Results.from_json(expected, "results.json").to_json()
    same = (found == expected, again == expected)  # outside of the assertion: a diff of files this long takes minutes
    assert same == (True, True)


def test_summaries_are_measures_by_seed_with_the_corrected_interval(runs, table):
    scope = Scope(tail=frozenset({4, 7}), groups=frozenset({1, 3, 7}), sites=frozenset({"site 0", "site 1", "site 2"}))
    assert {g.mask: (g.tail, g.ranked) for g in table.groups} == {
        3: (False, True),
        1: (False, True),
        7: (True, True),
        4: (True, False),
    }
    models = {}
    for run in runs:
        (one,) = run.result.outcomes
        models[run.arm, run.seed] = examine({s: {k: e.value() for k, e in own.items()} for s, own in one.test.items()})
    for arm in SKILLS:
        for name in (*USUAL, "available:0", "absent:0"):
            for metric in METRICS:
                found = summary(table, arm, name, metric)
                assert found.values == tuple(measure(name, models[arm, s], scope)[metric] for s in range(10))
                defined = [v for v in found.values if v is not None]
                assert (found.n, found.mean) == (len(defined), pytest.approx(np.mean(defined)))
                error = np.std(defined, ddof=1) * np.sqrt(1 / len(defined) + 100 / 400)
                low, high = stats.t.interval(0.95, len(defined) - 1, np.mean(defined), error)
                expected = (max(low, 0), high if metric == "loss" else min(high, 1))
                assert (found.low, found.high) == pytest.approx(expected)


def test_groups_and_sites_by_seed_and_of_all_seeds_together(runs, table):
    own = [run.result.outcomes[0].test for run in runs if run.arm == "plain"]
    everybody = merge(merge({k: e.value() for k, e in site.items()} for site in test.values()) for test in own)
    for one in table.by_group:
        if one.arm == "plain":
            assert one.pooled == getattr(scores(everybody[one.mask]), one.metric)
    for one in table.by_site:
        if one.arm == "plain" and one.metric == "accuracy":
            value = [sum(np.trace(e.confusion) for e in t[one.site].values()) for t in own]
            n = [sum(e.count for e in t[one.site].values()) for t in own]
            assert one.values == pytest.approx(np.divide(value, n))
            assert one.pooled == pytest.approx(sum(value) / sum(n))
    assert len(table.by_group) == 3 * 4 * len(METRICS)
    assert len(table.by_site) == 3 * 3 * len(METRICS)


def test_each_patient_is_tested_once_per_partition(table):
    assert {g.mask: g.tested for g in table.groups} == counts(PATIENTS)
    for group in table.groups:
        mine = PATIENTS.group_N == group.mask
        assert group.positives == PATIENTS.label_N[mine].sum()
        assert group.test_n == pytest.approx(mine.sum() / 5)
        assert group.train_n == pytest.approx(mine.sum() * 4 / 5)
    assert [g.train_n for g in table.groups] == sorted((g.train_n for g in table.groups), reverse=True)
    assert {s.name: s.tested for s in table.sites} == {
        s: int((PATIENTS.site_N == s).sum()) for s in np.unique(PATIENTS.site_N).tolist()
    }


@pytest.mark.parametrize(("seeds", "counted"), [(range(3), range(3)), (range(7), range(5)), ((3, 4, 5), (3, 4))])
def test_of_partitions_that_are_not_whole_the_fuller_one_counts(seeds, counted):
    tested_N = np.isin(fold_of(PATIENTS, 0, 5), [s % 5 for s in counted])
    (found,) = study(study_runs(PATIENTS, SKILLS, seeds), seeds=seeds).panels
    assert {g.mask: g.tested for g in found.groups} == counts(PATIENTS.at(tested_N))


def examined(run: Run, test) -> Run:
    """The run with another test."""
    (one,) = run.result.outcomes
    changed = one.model_copy(update={"test": test})
    return replace(run, result=run.result.model_copy(update={"outcomes": (changed,)}))


def with_group_of(number: int) -> list[Run]:
    """Runs on a cohort with so many patients of group 4."""
    others = np.flatnonzero(PATIENTS.group_N != 4)
    patients = PATIENTS.at(np.concatenate([others, others[:number]]))
    patients.group_N[len(others) :] = 4
    return list(study_runs(patients, SKILLS, range(5)))


def without_group_4(run: Run) -> Run:
    """The run with a model that knows nothing of group 4."""
    (one,) = run.result.outcomes
    test = {s: {k: spoiled(e) if k == 4 else e for k, e in own.items()} for s, own in one.test.items()}
    return examined(run, test)


def spoiled(evaluation: Evaluation) -> Evaluation:
    """Everybody is called the wrong class, at a high loss."""
    well, sick = (sum(row) for row in evaluation.confusion)
    bins = [(0, 0, 511, well), (0, 1, 0, sick)]
    return Evaluation(
        count=evaluation.count,
        loss_sum=20.0 * evaluation.count,
        open_sum=0.0,
        confusion=[[0, well], [sick, 0]],
        scores=[one for one in bins if one[3]],
    )


@pytest.mark.parametrize(("number", "ranked"), [(29, False), (30, True)])
def test_a_group_of_29_is_shown_but_never_ranked(number, ranked):
    runs = with_group_of(number)
    spoilt = [without_group_4(run) if run.arm == "remind" else run for run in runs]
    good, bad = (study(own, seeds=range(5)).panels[0] for own in (runs, spoilt))
    assert {g.mask: (g.tested, g.ranked, g.tail) for g in good.groups}[4] == (number, ranked, True)
    names = ("mean_tail", "mean_groups", "worst_group")
    for name in names:
        for metric in METRICS:
            same = summary(good, "remind", name, metric) == summary(bad, "remind", name, metric)
            assert same is not ranked, (name, metric)
    for one, other in zip(good.best, bad.best, strict=True):
        assert (one == other or ranked) or one.measure not in names
    shown = [one.mean for one in bad.by_group if (one.arm, one.mask, one.metric) == ("remind", 4, "accuracy")]
    assert shown == [0.0]


def test_a_small_site_is_shown_but_never_ranked():
    patients = replace(PATIENTS, site_N=PATIENTS.site_N.copy())
    patients.site_N[:29] = "tiny"
    (found,) = study(study_runs(patients, SKILLS, range(5)), seeds=range(5)).panels
    assert {s.name: s.ranked for s in found.sites} == {"site 0": True, "site 1": True, "site 2": True, "tiny": False}
    own = {s.site: s for s in found.by_site if (s.arm, s.metric) == ("plain", "accuracy")}
    ranked = [own[f"site {i}"].values for i in range(3)]
    assert summary(found, "plain", "worst_site", "accuracy").values == tuple(np.min(ranked, axis=0))
    everyone = summary(found, "plain", "mean_sites", "accuracy").values
    assert everyone[0] == pytest.approx(np.mean([one.values[0] for one in own.values() if one.values[0] is not None]))


def test_permuting_the_sites_changes_nothing_but_their_names(runs, table):
    other = {"site 0": "site 2", "site 1": "site 0", "site 2": "site 1"}

    def moved(run: Run) -> Run:
        (one,) = run.result.outcomes
        return examined(run, {other[site]: own for site, own in one.test.items()})

    (found,) = study([moved(run) for run in runs]).panels
    assert found.groups == table.groups
    assert found.best == table.best
    for one, same in zip(found.summaries, table.summaries, strict=True):
        assert (one.mean, one.low, one.high) == pytest.approx((same.mean, same.low, same.high))
    tested = {s.name: s.tested for s in found.sites}
    assert {s.name: s.tested for s in table.sites} == {site: tested[name] for site, name in other.items()}


def test_every_arm_is_tested_against_the_reference_and_holm_counts_each_family(table):
    assert [(t.measure, t.arm) for t in table.tests] == [
        (name, arm) for name in (*USUAL, "available:0", "absent:0") for arm in ("plain", "pooled remind")
    ]
    assert {(t.against, t.metric) for t in table.tests} == {("remind", "auroc")}
    for anchor in (False, True):
        for main in (False, True):
            apart = {"head_patients", "mean_groups", "mean_sites"}
            family = [t for t in table.tests if (t.arm == "pooled remind", t.measure not in apart) == (anchor, main)]
            assert len(family) == (len(USUAL) + 2 - 3 if main else 3)
            assert [t.p_adjusted for t in family] == holm([t.p for t in family])
    for one in table.tests:
        arm, against = (summary(table, name, one.measure).values for name in (one.arm, "remind"))
        expected = paired(arm, against, 0.25)
        assert (one.difference, one.low, one.high, one.p, one.n) == pytest.approx(
            (expected.mean, expected.low, expected.high, expected.p, expected.n)
        )
        both = [(x, y) for x, y in zip(arm, against, strict=True) if x is not None and y is not None]
        assert one.difference == pytest.approx(np.mean([x - y for x, y in both]))


def test_best_are_the_tied_without_anchors(table):
    assert len(table.best) == (len(USUAL) + 2) * len(METRICS)
    for one in table.best:
        values = {arm: summary(table, arm, one.measure, one.metric).values for arm in ("plain", "remind")}
        assert one.arms == tied_best(values, 0.25, lower=one.metric == "loss")
    found = {(one.measure, one.metric): one.arms for one in table.best}
    assert found["overall", "auroc"] == found["overall", "loss"] == ("remind",)


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
    assert (first.gate_open, first.validation_loss) == ({}, None)
    assert second.gate_open == pytest.approx({3: 0.25})
    assert third.validation_loss == pytest.approx(0.5)


def test_a_study_of_costs_has_facts_and_no_scores():
    rng = np.random.default_rng(0)
    costs = {s: {"parameters": 1000.0, "ratio": float(rng.uniform(1, 2))} for s in range(3)}
    runs = [Run("compare", "remind", s, result(PATIENTS, [], s, facts=own)) for s, own in costs.items()]
    found = study(runs, seeds=range(4))
    assert found.panels[0].summaries == found.panels[0].best == ()
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
    for federated, pooled in zip(three.by_group, one.by_group, strict=True):
        assert (federated.values, federated.pooled) == (pytest.approx(pooled.values), pytest.approx(pooled.pooled))
