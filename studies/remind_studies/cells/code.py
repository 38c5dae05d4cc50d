"""The hash of the code that affects a cell's result: whole folders, extensions of other packages, and libraries.

No list names modules or libraries, so that none can be forgotten.
"""

import platform
import re
from collections.abc import Iterator
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from remind import extensions

PACKAGES = ("remind", "remind_server", "remind_client", "remind_studies.cells", "remind_studies.yardsticks")
DISTRIBUTION = "federated-remind"
OTHER_EXTRAS = {"dev", "docs"}  # what tests and documents need
_MADE = {"__pycache__"}  # by Python, not by people


def code() -> list[str]:
    """Return path and digest of every file that affects results, and the versions of Python and of libraries.

    Files are those of our packages, and of the packages that bring extensions.

    Raises
    ------
    FileNotFoundError
        A package has no files: without its digest, stale results would be reused.
    """
    parts = [platform.python_version(), *(f"{name} {_version(name)}" for name in libraries())]
    for package in PACKAGES:
        parts += folder_contents(Path(str(import_module(package).__file__)).parent)
    for paths in extensions.places().values():
        for path in paths:
            parts += folder_contents(path) if path.is_dir() else [f"{path.name} {digest(path)}"]
    return parts


def libraries() -> list[str]:
    """Return the names of the libraries that the project declares, without those that only tests and documents need."""
    found = set()
    for requirement in requires(DISTRIBUTION) or ():
        about, _, condition = requirement.partition(";")
        extra = re.search(r"extra == ['\"]([^'\"]+)", condition)
        if (name := re.match(r"[\w.-]+", about)) and (extra is None or extra[1] not in OTHER_EXTRAS):
            found.add(name[0])
    return sorted(found)


def folder_contents(root: Path) -> list[str]:
    """Return path and digest of every file below a folder.

    Raises
    ------
    FileNotFoundError
        There are none.
    """
    found = [f"{root.name}/{path.relative_to(root)} {digest(path)}" for path in _files(root)]
    if not found:
        raise FileNotFoundError(f"{root} has no files to tell one version of the code from another")
    return found


def digest(path: Path) -> str:
    """Return the digest of a file's content."""
    return sha256(path.read_bytes()).hexdigest()


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and not _MADE.intersection(path.relative_to(root).parts):
            yield path


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
