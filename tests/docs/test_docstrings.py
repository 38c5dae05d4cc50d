"""A docstring says what its function does, and does not send the reader elsewhere for all of it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("remind", "server", "client", "studies", "benchmarks", "tests")
DEFINED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def only_references(text: str) -> list[str]:
    """The docstrings of a module that begin with See; @override without a docstring says the same."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, DEFINED)]
    return [said for node in nodes if (said := ast.get_docstring(node) or "").startswith("See ")]


def test_no_docstring_is_only_a_reference():
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert {str(path.relative_to(ROOT)): found for path in files if (found := only_references(path.read_text()))} == {}


def test_a_reference_is_found():
    assert only_references('class A:\n    def f(self):\n        """See `B`."""') == ["See `B`."]
