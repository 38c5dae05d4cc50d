"""The recipes of the documents as files: where a page says that they go, for the length of a block."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from remind.data.cohort import kind
from remind.data.synthetic.features import base as features
from remind.encoders import base as encoders
from remind.registry import Registry

DOCS = Path(__file__).parents[2] / "docs"


def files_of(page: str, heading: str) -> dict[str, str]:
    """The files that a section of a page gives: path → text."""
    (section,) = re.findall(rf"^###? {re.escape(heading)}\n(.*?)(?=^###? |\Z)", _text(page), re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"File `([^`]+\.py)`.*?\n```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL))


def changes_of(page: str) -> list[str]:
    """The lines of a page's only block of changes to files."""
    (block,) = re.findall(r"^```diff\n(.*?)^```", _text(page), re.MULTILINE | re.DOTALL)
    return block.splitlines()


@contextmanager
def added(files: Mapping[str, str], folder: Path, patch: pytest.MonkeyPatch, *registries: Registry) -> Iterator[None]:
    """Within the block each file is a module of its package, and what it registers is known."""
    kind.kinds(), features.makers(), encoders.encoders()  # what is registered now stays registered afterwards
    for registry in registries:
        registry.methods()
    names = []
    with patch.context() as now:
        for path, text in files.items():
            package, _, module = ".".join(Path(path).with_suffix("").parts).rpartition(".")
            package = package.removeprefix("studies.")
            place = folder / package
            place.mkdir(exist_ok=True)
            (place / f"{module}.py").write_text(text, encoding="utf-8")
            names.append((package, module))
        for package in {package for package, _ in names}:
            home = import_module(package)
            now.setattr(home, "__path__", [*home.__path__, str(folder / package)])
        now.setattr(kind, "_KINDS", dict(kind._KINDS))
        now.setattr(features, "_MAKERS", dict(features._MAKERS))
        now.setattr(encoders, "_USUAL", dict(encoders._USUAL))
        now.setattr(encoders, "_OF_SCHEMA", dict(encoders._OF_SCHEMA))
        for registry in (*encoders._OF_SCHEMA.values(), *registries):
            now.setattr(registry, "_methods", dict(registry._methods))
        try:
            yield
        finally:
            encoders.choices.cache_clear()
            for package, module in names:
                sys.modules.pop(f"{package}.{module}", None)
                vars(import_module(package)).pop(module, None)


def _text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")
