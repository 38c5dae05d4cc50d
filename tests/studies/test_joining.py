"""The gain of a hospital: against its best model alone, chosen on validation patients and never on test patients."""

from dataclasses import replace

import numpy as np
import pytest

from remind.errors import UserError
from remind_studies.arms import read_arms
from remind_studies.report.joining import sentence
from remind_studies.report.write import render
from remind_studies.results import Run
from remind_studies.results.mailed import mailed
from remind_studies.results.statistics import holm, paired
from remind_studies.study import Arm, Panel
from tests.builders.studies import plan, request
from tests.builders.study_results import PATIENTS, study
from tests.builders.study_runs import fold_of, outcome, result

SEEDS, FOLDS = range(10), 5
ARMS = (
    Arm(name="joined"),
    Arm(name="trees", anchor=True, options={"place": "local"}, runner="yardstick"),
    Arm(name="line", anchor=True, settings={"method.rule": "local"}),
    Arm(name="one place", anchor=True, options={"place": "pooled"}, runner="yardstick"),
)
PANEL = Panel("compare", "", ARMS, reference="joined")
SKILL = {"joined": (2.0, 2.0), "trees": (2.5, 0.5), "line": (0.2, 1.0), "one place": (3.0, 3.0)}  # validation, test


def runs():
    """`trees` look best on validation patients and are worst on test patients."""
    for arm, (held, tested) in SKILL.items():
        for seed in SEEDS:
            rng = np.random.default_rng([seed, len(arm)])
            fold_N = fold_of(PATIENTS, seed // FOLDS, FOLDS)
            test_N, held_N = fold_N == seed % FOLDS, fold_N == (seed + 1) % FOLDS
            found = {}
            for part_N, skill in ((test_N, tested), (held_N, held)):
                logits_NC = rng.normal(size=PATIENTS.log_p_NC.shape) + skill * np.eye(2)[PATIENTS.label_N]
                log_p_NC = logits_NC - np.logaddexp.reduce(logits_NC, axis=1, keepdims=True)
                found[skill, part_N.tobytes()] = outcome(replace(PATIENTS, log_p_NC=log_p_NC).at(part_N))
            test, validation = found.values()
            both = test.model_copy(update={"validation": validation.test})
            yield Run("compare", arm, seed, result(PATIENTS.at(~(test_N | held_N)), [both], seed))


@pytest.fixture(scope="module")
def results():
    return study(list(runs()), panels=(PANEL,), seeds=SEEDS, folds=FOLDS)


def test_what_is_alone_pooled_or_federated():
    arms = read_arms("remind, boosting+pooled, logistic, xgb_cyclic, remind+local", {})
    places = {arm.name: arm.place for arm in arms}
    assert places == {
        "remind": "",
        "boosting+pooled": "pooled",
        "local logistic": "local",
        "xgb_cyclic": "",
        "remind+local": "local",
    }


def test_the_best_alone_is_chosen_on_validation_patients_even_where_the_test_says_otherwise(results):
    one, most = results.panels[0].joining
    assert (one.arm, most.arm) == ("joined", "one place"), "nobody who is alone has joined; pooled is the most to gain"
    assert most.gain > one.gain
    sites = {(s.arm, s.site): s.values for s in results.panels[0].by_site if s.metric == "auroc"}
    for hospital in one.hospitals:
        assert hospital.chosen == {"trees": len(SEEDS)}
        assert hospital.alone == pytest.approx(np.mean(sites["trees", hospital.site]))
        assert hospital.joined == pytest.approx(np.mean(sites["joined", hospital.site]))


def test_gains_are_paired_and_adjusted_over_the_hospitals(results):
    one = results.panels[0].joining[0]
    sites = {(s.arm, s.site): s.values for s in results.panels[0].by_site if s.metric == "auroc"}
    own = [paired(sites["joined", h.site], sites["trees", h.site], 1 / 3) for h in one.hospitals]
    for hospital, expected in zip(one.hospitals, own, strict=True):
        assert hospital.gain == pytest.approx(expected.mean)
        assert hospital.gain > 0
    assert [h.p_adjusted for h in one.hospitals] == pytest.approx(holm([e.p for e in own]))
    assert one.gain == pytest.approx(np.mean([h.gain for h in one.hospitals]))
    assert one.low < one.gain < one.high


def test_a_gain_is_positive_where_lower_losses_are_better():
    found = study(list(runs()), panels=(PANEL,), seeds=SEEDS, folds=FOLDS, metric="log_loss")
    one = found.panels[0].joining[0]
    assert one.gain > 0
    assert one.low < one.gain < one.high
    assert all(h.joined < h.alone for h in one.hospitals if h.gain > 0)


def test_the_report_says_who_gains_and_shows_it(results):
    one = results.panels[0].joining[0]
    said = sentence(one, results.margin)
    assert said.startswith("With joined the mean is better than with the best that a hospital has alone at 3 of ")
    page = render(results)
    assert said.split(":")[0] in page
    assert 'id="p1-joining"' in page


def test_hospitals_that_are_withheld_are_withheld_here_too(results):
    least = sorted(site.fewest for site in results.panels[0].sites)[1]
    (panel,) = mailed(results, least).panels
    assert len(panel.sites) < 3
    assert {h.site for one in panel.joining for h in one.hospitals} <= {site.name for site in panel.sites}


def test_without_anyone_alone_there_is_nothing_to_say():
    alone = Panel("compare", "", (ARMS[0], ARMS[3]), reference="joined")
    kept = [run for run in runs() if run.arm in ("joined", "one place")]
    assert study(kept, panels=(alone,), seeds=SEEDS, folds=FOLDS).panels[0].joining == ()


def test_the_study_of_joining_divides_the_same_patients_into_ever_more_hospitals():
    of = request("xgb_bagging", own_hospitals=("a", "b", "c"))
    panels = plan("joining(sites = '2, 8')", of)
    assert [(one.name, one.clients) for one in panels] == [("hospitals", None), ("sites = 2", 2), ("sites = 8", 8)]
    for panel in panels:
        assert panel.reference == "xgb_bagging"
        assert all(arm.runner for arm in panel.arms), "nothing that takes long"
        assert {arm.place for arm in panel.arms} == {"local", "pooled", ""}
    with pytest.raises(UserError, match="sites: 1 hospitals for 400"):
        plan("joining(sites = '1')", of)
    with pytest.raises(UserError, match="no hospitals of its own"):
        plan("joining(sites = '')", request("xgb_bagging"))
