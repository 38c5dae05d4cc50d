"""Measures of one model against single patients; federated = pooled; who is not ranked does not count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from remind_studies.results.measures import METRICS, USUAL, Scope, examine, measure
from tests.builders.study_runs import Patients, by_site, draw, statistics

EVERYONE = Scope(tail=frozenset({7, 4}), groups=frozenset({1, 3, 4, 7}), sites=frozenset(f"site {i}" for i in range(9)))
BITS = ("available:0", "absent:0", "available:2", "absent:2")
SEEDS = st.integers(0, 10**6)


def measured(patients: Patients, name: str, scope: Scope = EVERYONE) -> dict[str, float | None]:
    return measure(name, examine(by_site(patients)), scope)


def by_hand(patients: Patients) -> dict[str, float]:
    """What can be computed from the patients without thresholds or bins."""
    predicted_N = patients.log_p_NC.argmax(axis=1)
    p_NC = np.exp(patients.log_p_NC)
    truth = log_loss(patients.label_N, p_NC / p_NC.sum(axis=1, keepdims=True))
    return {
        "accuracy": float(np.mean(predicted_N == patients.label_N)),
        "balanced_accuracy": balanced_accuracy_score(patients.label_N, predicted_N),
        "macro_f1": f1_score(patients.label_N, predicted_N, average="macro"),
        "log_loss": truth,
        "loss": truth,  # what these patients' statistics say their objective was
    }


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("overall", lambda group: True),
        ("tail_patients", lambda group: group in {4, 7}),
        ("head_patients", lambda group: group in {1, 3}),
        ("available:0", lambda group: group in {1, 3, 7}),
        ("absent:0", lambda group: group == 4),
        ("available:2", lambda group: group in {4, 7}),
        ("absent:2", lambda group: group in {1, 3}),
    ],
)
def test_patients_together_are_one_set(name, belongs):
    patients = draw(0, 400)
    found = measured(patients, name)
    own = patients.at(np.vectorize(belongs)(patients.group_N))
    expected = by_hand(own)
    assert expected.keys() < set(METRICS) == found.keys()
    assert {m: found[m] for m in expected} == pytest.approx(expected)


def test_means_and_worst_of_groups_and_sites():
    patients = draw(1, 400)
    group = {k: by_hand(patients.at(patients.group_N == k)) for k in (1, 3, 4, 7)}
    site = {s: by_hand(patients.at(patients.site_N == s)) for s in np.unique(patients.site_N)}
    for metric in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss"):
        worst = max if metric == "log_loss" else min
        expected = {
            "mean_tail": np.mean([group[4][metric], group[7][metric]]),
            "mean_groups": np.mean([own[metric] for own in group.values()]),
            "worst_group": worst(own[metric] for own in group.values()),
            "mean_sites": np.mean([own[metric] for own in site.values()]),
            "worst_site": worst(own[metric] for own in site.values()),
        }
        assert {name: measured(patients, name)[metric] for name in expected} == pytest.approx(expected)


@given(seed=SEEDS, sites=st.integers(1, 8), number=st.integers(1, 120))
def test_federated_is_pooled(seed, sites, number):
    """However patients lie in hospitals, what is said of groups is what it would be in one place."""
    patients = draw(seed, number, sites=sites)
    federated, pooled = examine(by_site(patients)), examine({"one place": statistics(patients)})
    for name in (*(n for n in USUAL if "site" not in n), *BITS):
        assert measure(name, federated, EVERYONE) == pytest.approx(measure(name, pooled, EVERYONE)), name


@pytest.mark.slow
@given(seed=SEEDS)
def test_neither_the_order_of_sites_nor_their_names_matter(seed):
    patients = draw(seed, 80, sites=4)
    test = by_site(patients)
    names = list(np.random.default_rng(seed).permutation(list(test)))
    shuffled = {name: dict(reversed(test[name].items())) for name in names}
    renamed = {other: test[name] for name, other in zip(test, names, strict=True)}
    for name in (*USUAL, *BITS):
        assert measure(name, examine(shuffled), EVERYONE) == measure(name, examine(test), EVERYONE)
        assert measure(name, examine(renamed), EVERYONE) == pytest.approx(measure(name, examine(test), EVERYONE))


@given(seed=SEEDS)
def test_who_is_not_ranked_can_score_anything(seed):
    """Measures of ranked groups and sites do not move, whatever the others' scores are."""
    patients = draw(seed, 150)
    scope = Scope(tail=frozenset({4, 7}), groups=frozenset({1, 3, 7}), sites=frozenset({"site 0", "site 1"}))
    names = ("mean_tail", "mean_groups", "worst_group", "worst_site")
    before = {name: measured(patients, name, scope) for name in names}
    unranked_N = (patients.group_N == 4) & (patients.site_N == "site 2")
    patients.log_p_NC[unranked_N] = np.log([0.999, 0.001])
    assert {name: measured(patients, name, scope) for name in names} == before


def test_undefined_scores_are_left_out():
    patients = draw(3, 300)
    patients.label_N[patients.group_N == 7] = 1  # one class alone: no AUROC, no balanced accuracy
    found, four = measured(patients, "mean_tail"), examine(by_site(patients)).groups[4]
    assert found["auroc"] == four.auroc
    assert found["accuracy"] != four.accuracy
    patients.label_N[:] = 1
    assert measured(patients, "mean_tail")["auroc"] is None
    nobody = Scope(tail=frozenset(), groups=frozenset(), sites=frozenset())
    for name in ("mean_tail", "tail_patients", "mean_groups", "worst_group", "worst_site"):
        assert set(measured(patients, name, nobody).values()) == {None}


@pytest.mark.parametrize("name", ["median", "available", "available:x", "worst_group:1", ""])
def test_no_such_measure(name):
    with pytest.raises(ValueError, match="no measure"):
        measured(draw(0, 20), name)
