"""Reserve a results folder for one run: create a new one, or require that an existing one is empty."""

from itertools import count
from pathlib import Path

from remind.errors import UserError


def make_own(wanted: Path) -> Path:
    """Create a new folder: `wanted`, or `wanted`-2, -3 … if that exists.

    Only one process can create a folder, so runs that start in the same second get different folders.
    """
    for number in count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            if not folder.parent.is_dir():
                raise UserError(f"results: {folder.parent} is a file; give another folder") from None
            continue
        except OSError as error:
            raise UserError(f"results: cannot make {folder}: {error.strerror}") from None
        return folder
    raise AssertionError("there are more numbers than folders")


def refuse_what_holds_something(folder: Path) -> None:
    """Refuse a folder that is not empty, because encoders of two runs must not mix.

    Raises
    ------
    UserError
        The folder is not empty, or is a file.
    """
    try:
        first = next(iter(sorted(folder.iterdir())), None) if folder.exists() else None
    except OSError as error:
        raise UserError(f"results: cannot use {folder}: {error.strerror}; give another folder") from None
    if first is not None:
        what = "already holds a run" if (folder / "config.json").exists() else f"is not empty ({first.name})"
        raise UserError(f"results: {folder} {what}; give another folder or remove it")


def require_unfinished(folder: Path) -> None:
    """Refuse to resume a folder that is no run's, or whose run has ended.

    Raises
    ------
    UserError
        The folder is no run's, or the run has ended.
    """
    if (folder / "summary.json").exists():
        raise UserError(f"results: the run in {folder} has ended; there is nothing to resume")
    if not (folder / "rounds.jsonl").exists():
        raise UserError(f"results: {folder} is no run's folder; there is nothing to resume")
