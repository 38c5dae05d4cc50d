"""Panels of results.json: the same bytes in any order, what is ranked, and tested."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from remind.federation.message_statistics import Evaluation
from remind.metrics.scores import SCORES, scores
from remind.metrics.statistics import merge
from remind_studies.results import Results, Run
from remind_studies.results.measures import LOWER_IS_BETTER, METRICS, USUAL, Scope, examine, measure
from remind_studies.results.statistics import MARGIN, equivalence, holm, paired, standings
from tests.builders.study_results import PATIENTS, SKILLS, examined, study, summary
from tests.builders.study_runs import counts, fold_of, study_runs


def equivalent(arm, against) -> float:
    return equivalence(arm, against, 0.25, MARGIN)


def turned_round(run: Run) -> Run:
    """The same run with everything in it that has no order the other way round."""
    (one,) = run.result.outcomes
    test = {site: dict(reversed(own.items())) for site, own in reversed(one.test.items())}
    flipped = {
        "outcomes": (one.model_copy(update={"test": test}),),
        "counts": dict(reversed(run.result.counts.items())),
    }
    return replace(run, result=run.result.model_copy(update=flipped))


@pytest.mark.slow
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
                expected = (max(low, 0), high if metric in LOWER_IS_BETTER else min(high, 1))
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
        log_loss_sum=20.0 * evaluation.count,
        log_loss_squares=400.0 * evaluation.count,
        brier_sum=evaluation.count,
        brier_squares=evaluation.count,
        bins=2,
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
    apart = {"head_patients", "mean_groups", "mean_sites"}
    main = {*USUAL, "available:0", "absent:0"} - apart - {"mean_tail"}
    for arm in ("plain", "pooled remind"):
        for measures in ({"mean_tail"}, main, apart):
            family = [t for t in table.tests if t.arm == arm and t.measure in measures]
            assert len(family) == len(measures), "a headline is claimed on the study's own measure alone"
            assert [t.p_adjusted for t in family] == holm([t.p for t in family])
            values = {t.measure: (summary(table, name, t.measure).values for name in (arm, "remind")) for t in family}
            assert [t.p_equal for t in family] == holm([equivalent(*values[t.measure]) for t in family])
    for one in table.tests:
        arm, against = (summary(table, name, one.measure).values for name in (one.arm, "remind"))
        expected = paired(arm, against, 0.25)
        assert (one.difference, one.low, one.high, one.p, one.n) == pytest.approx(
            (expected.mean, expected.low, expected.high, expected.p, expected.n)
        )
        both = [(x, y) for x, y in zip(arm, against, strict=True) if x is not None and y is not None]
        assert one.difference == pytest.approx(np.mean([x - y for x, y in both]))


def test_methods_stand_where_the_tests_put_them_without_anchors(table):
    assert len(table.best) == (len(USUAL) + 2) * (len(METRICS) - 1), "none by the objectives' own losses"
    for one in table.best:
        values = {arm: summary(table, arm, one.measure, one.metric).values for arm in ("plain", "remind")}
        stand = standings(values, 0.25, MARGIN, lower=SCORES[one.metric].lower_is_better)
        assert (one.first, one.equal, one.open) == (stand.first, stand.equal, stand.open)
    found = {(one.measure, one.metric): one.arms for one in table.best}
    assert found["overall", "auroc"] == found["overall", "log_loss"] == ("remind",)
