"""The hash of the code that affects a cell's result. It covers whole folders, so that no module can be forgotten."""

import platform
from collections.abc import Iterator
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("remind", "remind_server", "remind_client", "remind_studies.cells", "remind_studies.yardsticks")
LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "pydicom",
    "nibabel",
    "flwr",
    "lightgbm",
    "scikit-learn",
    "xgboost",
    "xgboost-cpu",
)
_MADE = {"__pycache__"}  # by Python, not by people


def code() -> list[str]:
    """Return path and digest of every file of the packages that affect results, and the versions of libraries.

    Raises
    ------
    FileNotFoundError
        A package has no files: without its digest, stale results would be reused.
    """
    parts = [platform.python_version(), *(f"{name} {_version(name)}" for name in LIBRARIES)]
    for package in PACKAGES:
        parts += folder_contents(Path(str(import_module(package).__file__)).parent)
    return parts


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
