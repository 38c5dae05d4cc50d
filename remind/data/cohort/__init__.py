"""Cohorts: declaration, reading, schema, contents."""

from importlib import import_module
from typing import Any

_FORMER = frozenset(
    {"SPLITS", "TEST", "TRAIN", "VALIDATION", "Cohort", "concatenate", "presence"}
)  # what stood in the module of this name before it became a folder


def __getattr__(name: str) -> Any:
    if name in _FORMER:
        return getattr(import_module("remind.data.cohort.cohort"), name)
    raise AttributeError(name)
