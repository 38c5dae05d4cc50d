"""Decorators by which other packages add methods, and where they are registered.

In a notebook the decorator is enough.
"""

from importlib import import_module
from typing import Any

_AT = {
    "fusion": ("remind.fusion.base", "registry"),
    "objective": ("remind.objectives.base", "registry"),
    "rule": ("remind.federation.rules.base", "registry"),
    "encoder": ("remind.encoders.base", "register"),
    "reader": ("remind.data.cohort.readers", "register"),
}


class Register:
    """Decorators: ``@remind.register.fusion("mine", title=…, paper=…, year=…)``.

    fusion, objective, rule
        Of a class that derives from `FusionModel`, `Objective` or `Rule`: name, title, paper, year, and its options.
    encoder
        Of a class that derives from `Encoder`, for the schema type of a kind of modality.
    reader
        Of a function that reads a kind's section of cohort.toml, and another for hospitals without the modality.
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
