"""The division of patients into hospitals and into parts of the split."""

from importlib import import_module
from typing import Any

_FORMER = frozenset(
    {"Site", "number_of_sites", "split_sites"}
)  # what stood in the module of this name before it became a folder


def __getattr__(name: str) -> Any:
    if name in _FORMER:
        return getattr(import_module("remind.data.sites.sites"), name)
    raise AttributeError(name)
