"""Federated REMIND: multimodal learning across hospitals, fair to rare modality combinations.

Importing this package costs nothing: torch and friends load with the attribute that needs them (docs/python.md).

Attributes
----------
load, Predictor, Predictions
    The model of a run, at work.
NextTest
    What would the next test tell?
Cohort
    Patients in memory.
adapt
    A trained model at a hospital that was not there.
simulate, read_run, Run
    A federation on this machine, and what a run left behind as tables.
Config
    The settings of a run.
register
    Decorators that add a fusion model, an objective, a federated rule, an encoder or a reader.
UserError
    A mistake that the caller can correct.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from remind.former_names import FormerNames

if TYPE_CHECKING:
    from remind.api.adapt import adapt
    from remind.api.cohort import Cohort
    from remind.api.register import register
    from remind.api.runs import Run, read_run, simulate
    from remind.config import Config
    from remind.errors import UserError
    from remind.prediction.next_test import NextTest
    from remind.prediction.predictions import Predictions
    from remind.prediction.predictor import Predictor, load

sys.meta_path.append(FormerNames())

_HOME = {
    "Cohort": "remind.api.cohort",
    "Config": "remind.config",
    "NextTest": "remind.prediction.next_test",
    "Predictions": "remind.prediction.predictions",
    "Predictor": "remind.prediction.predictor",
    "Run": "remind.api.runs",
    "UserError": "remind.errors",
    "adapt": "remind.api.adapt",
    "load": "remind.prediction.predictor",
    "read_run": "remind.api.runs",
    "register": "remind.api.register",
    "simulate": "remind.api.runs",
}
__all__ = [  # a list that type checkers read
    "Cohort",
    "Config",
    "NextTest",
    "Predictions",
    "Predictor",
    "Run",
    "UserError",
    "adapt",
    "load",
    "read_run",
    "register",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'remind' has no attribute {name!r}")
    found = getattr(import_module(_HOME[name]), name)
    globals()[name] = found  # not asked for again
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
