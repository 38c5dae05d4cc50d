"""Decorators with which other packages add methods.

In a notebook the decorator is enough.
"""

from importlib import import_module
from typing import Any

_AT = {
    "fusion": ("remind.fusion.base", "registry"),
    "objective": ("remind.objectives.base", "registry"),
    "rule": ("remind.federation.rules.base", "registry"),
    "aggregator": ("remind.federation.aggregators.base", "registry"),
    "encoder": ("remind.encoders.base", "register"),
    "kind": ("remind.data.cohort.kind", "register"),
    "reader": ("remind.data.cohort.kind", "reader"),
    "features": ("remind.data.synthetic.features.base", "makes"),
}


class Register:
    """Decorators: ``@remind.register.fusion("mine", title=…, paper=…, year=…)``.

    fusion, objective, rule, aggregator
        Of a class that derives from `FusionModel`, `Objective`, `Rule` or `Aggregator`: name, title, paper, year and
        its options.
    encoder
        Of a class that derives from `Encoder`, for the schema type of a kind of modality: its name and title.
    kind
        Of a class that derives from `Kind`: a further kind of modality (docs/extend.md).
    reader
        Of a function that reads a kind of modality, by its name, in place of its own reader.
    features
        Of a function that generates synthetic patients' data, for the names of kinds.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _AT:
            raise AttributeError(f"remind.register has no {name!r}; there are {', '.join(_AT)}")
        module, attribute = _AT[name]
        found = getattr(import_module(module), attribute)
        return getattr(found, "register", found)

    def __dir__(self) -> list[str]:
        return sorted(_AT)


register = Register()
