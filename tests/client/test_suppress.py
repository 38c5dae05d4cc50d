"""Suppression, property by property: the data of a small group are in no part of any message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.federation.message_statistics import Evaluation, LossSum
from remind.federation.messages import Enrolment, Examination, Report
from remind_client.policy.suppress import (
    KNOWN,
    UnknownFieldError,
    counts_of,
    released_groups,
    suppress_enrolment,
    suppress_examination,
    suppress_report,
)
from tests.builders.evaluations import evaluation

GROUPS = st.integers(1, 15)
COUNTS = st.dictionaries(GROUPS, st.integers(1, 40), max_size=10)
MINIMUM = st.integers(1, 45)


def enrolment(counts: dict[int, int], only_observed: list[int]) -> Enrolment:
    observed = tuple(sorted({*counts, *only_observed}))
    labels = {k: (n // 2, n - n // 2) for k, n in counts.items()}
    return Enrolment(
        site="a", version="1", cohort_schema={}, fingerprint="f", counts=counts, observed=observed, labels=labels
    )


@given(COUNTS, st.lists(GROUPS, max_size=4), MINIMUM)
def test_an_enrolment_names_no_small_group(counts, only_observed, minimum):
    given_ = enrolment(counts, only_observed)
    suppressed = suppress_enrolment(given_, minimum)
    released = released_groups(given_, minimum)
    assert suppressed.counts == {k: n for k, n in counts.items() if n >= minimum}
    assert set(suppressed.labels) <= released
    assert set(suppressed.observed) <= released
    if minimum > 1:
        assert set(suppressed.observed) == set(suppressed.counts)
    else:
        assert suppressed == given_, "nothing is withheld where nothing is asked for"


@pytest.mark.parametrize("claimed", [None, True, False])
@pytest.mark.parametrize("named", [True, False])
def test_whether_the_site_may_be_named_is_the_policys_word(claimed, named):
    """Whatever the app put into its answer."""
    claim = enrolment({1: 40}, []).model_copy(update={"named": claimed})
    assert suppress_enrolment(claim, 10, named).named is named


@given(COUNTS, COUNTS, COUNTS, MINIMUM)
def test_reports_and_examinations_name_no_small_group(enrolled, first, second, minimum):
    released = released_groups(enrolment(enrolled, []), minimum)
    losses = {k: LossSum(count=n, loss_sum=1.0) for k, n in first.items()}
    parts = {k: evaluation(n) for k, n in second.items()}
    report = Report(round=0, share=0.5, train=losses, validation=parts, seconds=1.0, index=())
    examination = Examination(round=0, test=parts, validation={}, seconds=1.0)
    for message in (
        suppress_report(report, released, minimum),
        suppress_examination(examination, released, minimum),
    ):
        for part in counts_of(message).values():
            assert all(n >= minimum and enrolled.get(k, 0) >= minimum for k, n in part.items())
    kept = suppress_report(report, released, minimum)
    assert kept.train == {k: v for k, v in losses.items() if k in released and v.count >= minimum}
    assert kept.validation == {k: v for k, v in parts.items() if k in released and v.count >= minimum}
    assert kept.model_copy(update={"train": losses, "validation": parts}) == report, "all else is as it was"


@given(COUNTS, GROUPS, st.integers(1, 9))
def test_a_small_group_and_no_group_look_the_same(counts, group, small):
    """The coordinator learns nothing of a group below the minimum, not even that it is there."""
    without = {k: n for k, n in counts.items() if k != group}
    with_ = {**without, group: small}
    minimum = 10
    assert suppress_enrolment(enrolment(with_, []), minimum) == suppress_enrolment(enrolment(without, []), minimum)


def test_a_small_groups_use_of_experts_stays_with_it():
    """A row of the expert map is a mean over a group's patients: of a few, nearly each patient's own."""
    parts = {3: evaluation(9), 5: evaluation(10)}
    report = Report(round=0, share=0.5, train={}, validation=parts, seconds=1.0, index=())
    left = suppress_report(report, {3, 5}, 10).model_dump_json()
    assert str(parts[5].use_sum[0]) in left
    assert not any(str(weight) in left for weight in parts[3].use_sum)


def test_counts_of_a_message_that_has_none():
    assert counts_of(LossSum(count=1, loss_sum=0.0)) == {}


def test_counts_by_class_are_in_the_log_too():
    assert counts_of(enrolment({3: 21}, [])) == {
        "enrolled": {3: 21},
        "enrolled, class 0": {3: 10},
        "enrolled, class 1": {3: 11},
    }


def test_a_field_that_suppression_does_not_know_does_not_leave():
    """Anybody who adds a field to a message must say here what of it may leave a hospital."""

    class Wordy(Enrolment):
        patients: str = "Anna Smith"

    for known in KNOWN:
        assert set(known.model_fields) == KNOWN[known], known
    with pytest.raises(UnknownFieldError):
        suppress_enrolment(Wordy.model_validate(enrolment({3: 40}, []).model_dump()), 10)


def test_the_helper_builds_what_it_says():
    with pytest.raises(ValueError, match="add up"):
        Evaluation.model_validate(evaluation(5).model_dump() | {"count": 6})
