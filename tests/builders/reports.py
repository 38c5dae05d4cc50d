"""Reports of a run made from random statistics, for tests of tables and pages."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from remind.metrics.statistics import GroupStatistics, collect
from remind_server.outputs.records import Observer, RoundRecord, RunResult, RunStart
from tests.builders.cohorts import schema
from tests.builders.configs import settings

COUNTS = {1: 90, 3: 10, 7: 2}
WEIGHTS = {1: 0.2, 3: 0.3, 7: 0.5}
SCHEMA = schema()


def statistics(seed: int, groups_: list[int], number: int = 40) -> dict[int, GroupStatistics]:
    rng = np.random.default_rng(seed)
    logits_BC = rng.normal(size=(number, 2))
    return collect(
        rng.choice(groups_, size=number),
        rng.integers(2, size=number),
        rng.gamma(1.0, size=number),
        logits_BC - np.logaddexp.reduce(logits_BC, axis=1, keepdims=True),
        rng.integers(2, size=number).astype(float),
        rng.dirichlet(np.ones(3), size=number),
    )


TEST = {"x": statistics(0, [1, 3]), "y": statistics(1, [1, 6]), "z": statistics(2, [3])}


def result(test: Mapping[str, Mapping[int, GroupStatistics]] = TEST, **changes) -> RunResult:
    fields: dict[str, Any] = {
        "config": settings(),
        "schema": SCHEMA,
        "counts": COUNTS,
        "weights": WEIGHTS,
        "tensors": {"fusion.head.bias": torch.ones(2)},
        "test": test,
        "validation": test,
        "absent": {},
        "seconds": 1.0,
    }
    return RunResult(**(fields | changes))


def record(round_=1, validation=None, **changes) -> RoundRecord:
    fields: dict[str, Any] = {
        "round": round_,
        "rounds": 2,
        "stage": 1,
        "seconds": 0.5,
        "counts": COUNTS,
        "weights_used": WEIGHTS,
        "weights_after": {1: 0.1, 3: 0.3, 7: 0.6},
        "risks": {1: 0.4, 3: 0.5},
        "validation": statistics(3, [1, 3]) if validation is None else validation,
        "answered": ("x", "y"),
        "absent": {"z": "no answer within 600 s"},
        "bytes_down": 100,
        "bytes_up": 90,
    }
    return RoundRecord(**(fields | changes))


START = RunStart(settings(), SCHEMA, {"x": {1: 90}, "y": {3: 10, 7: 2}}, COUNTS, {"w": "version 0; install the same"})


def follow(observer: Observer, test=TEST, validation=None) -> None:
    """Tell an observer of a run of two rounds."""
    observer.started(START)
    for round_ in (1, 2):
        observer.round_done(record(round_, validation), {"fusion.head.bias": torch.full((2,), float(round_))})
    observer.finished(result(test))
