"""Modules that register methods, kinds of modalities, encoders, scores or studies: of folders, and of other packages.

Another package names its modules in the entry points `remind.extensions` of its pyproject.toml, those of scores in
`remind.scores`; each is imported when something that it may have registered is first asked for.
"""

import pkgutil
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from remind.errors import UserError

GROUP, SCORES = "remind.extensions", "remind.scores"


def load_folder(package: str) -> None:
    """Import every module of a package's folder; once for each list of folders that make up the package."""
    _load_folder(package, tuple(import_module(package).__path__))


@cache
def _load_folder(package: str, path: tuple[str, ...]) -> None:
    for module in pkgutil.iter_modules(path):
        import_module(f"{package}.{module.name}")


@cache
def load_extensions(group: str = GROUP) -> None:
    """Import what installed packages name in a group of entry points, once.

    Raises
    ------
    UserError
        One cannot be imported.
    """
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        try:
            entry.load()
        except Exception as error:
            package = "" if entry.dist is None else f" of the package {entry.dist.name}"
            raise UserError(
                f"extension {entry.name}{package}: {entry.value} cannot be imported: {type(error).__name__}: {error}; "
                "repair or uninstall that package"
            ) from None


def places() -> dict[str, tuple[Path, ...]]:
    """Return where the code of other packages' extensions lies: top-level module → its folders, or its file.

    Raises
    ------
    FileNotFoundError
        There is no such module.
    """
    found = {}
    for entry in (entry for group in (GROUP, SCORES) for entry in entry_points(group=group)):
        name = entry.module.partition(".")[0]
        spec = find_spec(name)
        folders = () if spec is None else tuple(spec.submodule_search_locations or ())
        paths = folders or ((spec.origin,) if spec is not None and spec.origin else ())
        if not paths:
            raise FileNotFoundError(f"extension {entry.name}: there is no module {name}")
        found[name] = tuple(map(Path, paths))
    return dict(sorted(found.items()))
