"""A message larger than the right answer can be is refused before it is parsed."""

import json
import tracemalloc

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from remind.federation.bounds import NO_TENSORS, ORDINARY, Bounds, reply_bounds
from remind.federation.flower import from_record, read_as, to_record
from remind.federation.message_statistics import Evaluation, LossSum
from remind.federation.messages import Enrol, Enrolment, Examination, Report
from remind.metrics.statistics import collect
from remind.outcomes.classes import Classes

LOSS = {"count": 1, "loss_sum": 1.0}


def said(content) -> RecordDict:
    return RecordDict({"message": ConfigRecord({"json": json.dumps(content)})})


def report(**changes):
    return {
        "kind": "report",
        "round": 0,
        "share": 0,
        "train": {},
        "validation": {},
        "seconds": 0,
        "index": [],
    } | changes


SWOLLEN = {
    "groups": report(train={str(k): LOSS for k in range(1, 150_000)}),
    "unknown fields": report(**{f"f{k}": 1 for k in range(600_000)}),
    "bins": report(validation={"1": {"count": 1, "scores": [[0, 0, 0, 1]] * 150_000}}),
    "experts": report(validation={"1": {"count": 1, "use_sum": [0.0] * 1_200_000}}),
    "lists in lists": report(index=[[]] * 600_000),
    "one long text": report(index="x" * 10**7),
}


@pytest.mark.parametrize("case", SWOLLEN)
def test_a_swollen_reply_costs_nothing_and_is_refused_in_few_words(case):
    record, bounds = said(SWOLLEN[case]), reply_bounds(3, Classes(classes=("no", "yes")), experts=16)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="too large") as caught:
            read_as(record, Report, bounds)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(str(record["message"]["json"])) + 100_000
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 200


def test_names_of_fields_are_quoted_in_short():
    with pytest.raises(ValueError, match="characters") as caught:
        from_record(said(report(**{"x\x1b[2J" * 10_000: 1})))
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_tensors_beyond_what_was_sent_are_refused():
    with pytest.raises(ValueError, match="tensors have 1000"):
        from_record(to_record(Enrol(version="1"), np.zeros(10**6, np.uint8)), NO_TENSORS)
    bounds = Bounds(1000, 100, 10**6)
    assert from_record(to_record(Enrol(version="1"), np.zeros(10**6, np.uint8)), bounds)[1].size == 10**6


@pytest.mark.parametrize(("classes", "groups", "experts"), [(2, 1, 0), (2, 40, 128), (5, 7, 16), (20, 3, 4)])
def test_the_largest_right_answer_fits(classes, groups, experts):
    """Every bin filled, every number as long as numbers get."""
    rng = np.random.default_rng(0)
    count = 3000
    log_p_BC = np.log(rng.dirichlet(np.full(classes, 0.2), size=count).clip(1e-12))
    found = collect(
        np.full(count, 2**40 - 1),
        rng.integers(classes, size=count),
        rng.random(count) * 1e-7 / 3,
        log_p_BC,
        rng.random(count),
        rng.random((count, experts)) / max(experts, 1),
    )
    evaluation = Evaluation.of(next(iter(found.values())))
    part = {2**40 - 1 - k: evaluation for k in range(groups)}
    bounds = reply_bounds(groups, Classes(classes=tuple(map(str, range(classes)))), experts)
    examination = Examination(round=1, test=part, validation=part, seconds=1 / 3)
    assert read_as(to_record(examination), Examination, bounds)[0] == examination
    losses = {k: LossSum(count=count, loss_sum=1 / 3e-7, variance=1 / 3e-7) for k in part}
    whole = Report(round=1, share=1 / 3, train=losses, local=losses, validation=part, seconds=1 / 3, index=())
    assert read_as(to_record(whole), Report, bounds)[0] == whole


def test_an_enrolment_of_a_wide_cohort_fits():
    schema = {"columns": [f"column number {i}" for i in range(50_000)]}
    counts = dict.fromkeys(range(1, 5000), 10)
    wide = Enrolment(
        site="s",
        version="1",
        cohort_schema=schema,
        fingerprint="f",
        counts=counts,
        observed=tuple(counts),
        labels=dict.fromkeys(counts, (5, 5)),
    )
    assert read_as(to_record(wide), Enrolment, NO_TENSORS)[0] == wide
    assert ORDINARY.text < 2**24
