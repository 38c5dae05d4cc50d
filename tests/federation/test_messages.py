"""Messages are closed: only the fields of a type can be sent, and inconsistent values are refused."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from remind.federation.blocks import Entry
from remind.federation.message_statistics import Evaluation, LossSum
from remind.federation.message_types import MOST, MOST_EXPERTS
from remind.federation.messages import Enrolment, Examine, Refusal, Report, Task
from remind.metrics.histograms import BINS

ENTRY = Entry(name="fusion.head.bias", block="shared", shape=(2,), dtype="float32")
EVALUATION = {
    "outcome": "classes",
    "sums": [],
    "count": 3,
    "loss_sum": 1.5,
    "log_loss_sum": 2.5,
    "log_loss_squares": 2.25,
    "brier_sum": 1.5,
    "brier_squares": 0.75,
    "bins": 2,
    "open_sum": 3.0,
    "confusion": [[1, 0], [1, 1]],
    "scores": [[0, 0, 100, 1], [0, 1, 100, 1], [0, 1, 511, 1]],
    "use_sum": [0.5, 0.0, 2.5],
}
REPORT = {
    "kind": "report",
    "round": 1,
    "share": 0.25,
    "train": {"3": {"count": 2, "loss_sum": 0.5, "variance": 0.125}},
    "validation": {"3": EVALUATION},
    "local": {"3": {"count": 2, "loss_sum": 0.25, "variance": 0.0}},
    "seconds": 0.1,
    "index": [ENTRY.model_dump(mode="json")],
    "privacy": {"epsilon": 1.5, "delta": 1e-05, "left": 2.5, "own": 4.5, "releases": {"training gradient": 1.25}},
}
TASK = {
    "kind": "task",
    "round": 0,
    "stage": 1,
    "stage_round": 0,
    "stage_rounds": 2,
    "seed": 0,
    "weights": {"3": 1.0},
    "counts": {"3": 4},
    "block_weights": {"shared": 1.0, "group:3": 1.0},
    "labels": {"3": [1, 3]},
    "candidates": [1, 4],
    "given": [3],
    "routed": True,
    "counted": 1,
    "secure": {
        "slot": 1,
        "observers": {"group:3": ["a", "b", "c"]},
        "patient": {"3": 0.25},
        "whole": {"group:3": 1.0},
        "plain": 0.125,
        "experts": 0,
    },
    "held": {"encoder:a": "0" * 64},
    "index": [ENTRY.model_dump(mode="json")],
}

VALUES = TASK | {"index": (ENTRY,), "weights": {3: 1.0}, "counts": {3: 4}, "labels": {}, "secure": None}


@pytest.mark.parametrize(("kind", "content"), [(Report, REPORT), (Task, TASK)])
def test_json_round_trip(kind, content):
    message = kind.model_validate_json(json.dumps(content))
    assert kind.model_validate_json(message.model_dump_json()) == message
    assert json.loads(message.model_dump_json()) == content


def spoilt(content, path, value):
    content = copy.deepcopy(content)
    *way, last = path
    node = content
    for step in way:
        node = node[step]
    node[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["extra"], 1),
        (["train", "3", "patients"], ["p1"]),
        (["validation", "3", "labels"], [0, 1]),
        (["index", 0, "data"], "x"),
        (["kind"], "task"),
        (["round"], -1),
        (["share"], -0.1),
        (["share"], 1.1),
        (["share"], float("nan")),
        (["seconds"], float("inf")),
        (["train", "0"], {"count": 1, "loss_sum": 0.0}),
        (["train", "-3"], {"count": 1, "loss_sum": 0.0}),
        (["train", str(2**70)], {"count": 1, "loss_sum": 0.0}),
        (["train", "x"], {"count": 1, "loss_sum": 0.0}),
        (["train", "3", "count"], 0),
        (["train", "3", "count"], -2),
        (["train", "3", "count"], 1.5),
        (["train", "3", "count"], MOST + 1),
        (["train", "3", "loss_sum"], -0.5),
        (["train", "3", "loss_sum"], float("nan")),
        (["train", "3", "loss_sum"], float("inf")),
        (["train", "3", "loss_sum"], 1e308),
    ],
)
def test_reports_that_are_refused(path, value):
    Report.model_validate_json(json.dumps(REPORT))
    with pytest.raises(ValidationError):
        Report.model_validate_json(spoilt(REPORT, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["count"], 4),
        (["open_sum"], 3.5),
        (["log_loss_sum"], -0.5),
        (["log_loss_sum"], float("inf")),
        (["log_loss_squares"], -1.0),
        (["log_loss_squares"], 2.0),  # less than 3 equal losses have
        (["log_loss_squares"], 6.3),  # more than one patient with the whole sum has
        (["brier_sum"], 3.1),
        (["brier_squares"], 0.7),
        (["brier_squares"], 1.6),
        (["brier_squares"], None),
        (["bins"], 1),
        (["open_sum"], float("nan")),
        (["confusion"], []),
        (["confusion"], [[3]]),
        (["confusion"], [[1, 0], [2]]),
        (["confusion"], [[1, 0, 0], [1, 1, 0]]),
        (["confusion"], [[2, 0], [1, 1]]),
        (["confusion"], [[2, -1], [1, 1]]),
        (["confusion"], [[2, 0], [0, 1]]),  # adds up, but the histogram has two patients of class 1
        (["scores"], []),
        (["scores", 0], [0, 0, BINS, 1]),
        (["scores", 0], [1, 0, 100, 1]),
        (["scores", 0], [0, 2, 100, 1]),
        (["scores", 0], [0, 0, -1, 1]),
        (["scores", 0], [0, 0, 100, 0]),
        (["scores", 0], [0, 0, 100, -1]),
        (["scores", 0], [0, 0, 100]),
        (["use_sum"], None),
        (["use_sum"], [0.5, -0.1, 2.5]),
        (["use_sum"], [0.5, float("nan"), 2.5]),
        (["use_sum"], [0.5, float("inf"), 2.5]),
        (["use_sum"], [1e308, 1e308]),
        (["use_sum"], [1.0, 1.0, 1.1]),
        (["use_sum"], [0.0] * (MOST_EXPERTS + 1)),
        (["use_sum"], [[1.0]]),
    ],
)
def test_evaluations_that_do_not_add_up_are_refused(path, value):
    Evaluation.model_validate_json(json.dumps(EVALUATION))
    with pytest.raises(ValidationError):
        Evaluation.model_validate_json(spoilt(EVALUATION, path, value))


@pytest.mark.parametrize("use", [[], [0.0, 0.0], [3.0], [1.0, 1.0, 1.0001]])
def test_use_of_experts_that_travels(use):
    """A model without experts, patients who needed none, and sums that rounding carried over the count."""
    message = Evaluation.model_validate(EVALUATION | {"use_sum": use})
    assert message.value().use_sum_E.tolist() == use
    assert Evaluation.of(message.value()) == message


def test_three_classes_need_three_histograms():
    of_three: dict[str, Any] = {
        "count": 1,
        "loss_sum": 0.0,
        "log_loss_sum": 0.0,
        "log_loss_squares": 0.0,
        "brier_sum": 2.0,
        "brier_squares": 4.0,
        "bins": 2,
        "open_sum": 0.0,
        "confusion": [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
        "scores": [[0, 1, 5, 1], [1, 0, 5, 1], [2, 0, 5, 1]],
    }
    assert Evaluation.model_validate(of_three).value().scores.cells() == [(0, 1, 5, 1), (1, 0, 5, 1), (2, 0, 5, 1)]
    with pytest.raises(ValidationError):
        Evaluation.model_validate(of_three | {"scores": of_three["scores"][:2]})


@given(over=st.floats(0, 1e-12))
def test_weights_that_rounding_carried_over_one_still_travel(over):
    Task.model_validate(VALUES | {"weights": {3: 1.0 + over}, "block_weights": {"shared": 1.0 + over}})


@pytest.mark.parametrize(("field", "value"), [("weights", {3: 1.01}), ("weights", {3: -0.1}), ("stage", 3)])
def test_tasks_that_are_refused(field, value):
    Task.model_validate(VALUES)
    with pytest.raises(ValidationError):
        Task.model_validate(VALUES | {field: value})


def test_messages_are_frozen():
    with pytest.raises(ValidationError):
        setattr(LossSum(count=1, loss_sum=0.0), "count", 2)  # noqa: B010


@pytest.mark.parametrize(
    "make",
    [
        lambda: Enrolment(site="", version="1", cohort_schema={}, fingerprint="", counts={}, observed=()),
        lambda: Enrolment(site="s", version="1", cohort_schema={}, fingerprint="", counts={0: 3}, observed=()),
        lambda: Enrolment(site="s", version="1", cohort_schema={}, fingerprint="", counts={1: 0}, observed=()),
        lambda: Enrolment(site="s", version="1", cohort_schema={}, fingerprint="", counts={1: 10**30}, observed=()),
        lambda: Examine.model_validate({"round": 0, "routing": True, "index": (), "weights": {1: 1.0}}),
        lambda: Refusal(reason="x" * 2001),
    ],
)
def test_others_that_are_refused(make):
    with pytest.raises(ValidationError):
        make()
