"""All tests of a module of contract tests, for one method that is not registered when tests are collected."""

from collections.abc import Iterator
from itertools import product
from types import ModuleType
from typing import Any


def hold(contract: ModuleType, **fixed: Any) -> list[str]:
    """Call every test of the module with these arguments, and with each value of its other parameters.

    Returns the names of the tests.
    """
    tests = {name: test for name, test in vars(contract).items() if name.startswith("test_")}
    for test in tests.values():
        for arguments in _arguments(test, fixed):
            test(**arguments)
    return list(tests)


def _arguments(test: Any, fixed: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The arguments of each call of a test: a parameter of its marks has all its values, unless it is fixed."""
    values = {}
    for mark in getattr(test, "pytestmark", []):
        name, given = mark.args
        assert "," not in name, "one parameter to a mark"
        values[name] = [fixed[name]] if name in fixed else list(given)
    for chosen in product(*values.values()):
        yield dict(zip(values, chosen, strict=True))
