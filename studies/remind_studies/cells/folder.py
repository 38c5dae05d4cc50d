"""A study's folder: cells as they finish, then results.json and report.html. Every file is written atomically."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from remind.config import DataConfig
from remind.data.sites.hospitals import SYNTHETIC
from remind.errors import UserError
from remind.files import write_whole
from remind.processes.locks import locked
from remind_studies.cells.cell import CellResult
from remind_studies.cells.code import code, digest

CELLS, RESULTS, REPORT, MARK = "cells", "results.json", "report.html", "study.json"
SMALL = 2**28  # bytes


class StudyFolder:
    """A folder of studies. It may contain the cells of several studies, each under its digest."""

    def __init__(self, path: Path, beside: Iterable[Path] = ()) -> None:
        self.path, self.beside = path, tuple(beside)  # other folders whose cells are used too
        if path.is_dir() and any(path.iterdir()) and not (path / CELLS).is_dir():
            raise UserError(f"--out: {path} contains other files than a study; give a new folder")
        try:
            (path / CELLS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out: cannot make {path}: {error.strerror}") from None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock this folder; raise a UserError if another process has locked it."""
        busy = f"--out: another process uses {self.path}; wait for it, or give another folder"
        with locked(self.path / ".lock", busy):
            yield

    def find(self, key: str) -> CellResult | None:
        """Return the result of a cell if it is stored and complete."""
        path = self._cell(key)
        self._take_over(key)
        try:
            return CellResult.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise UserError(f"{path} is not the result of a cell; remove it, and the cell is computed again") from None

    def has(self, key: str) -> bool:
        """Return whether the result of a cell is stored."""
        self._take_over(key)
        return self._cell(key).is_file()

    def keep(self, key: str, result: CellResult) -> None:
        """Write the result of a cell."""
        text = result.model_dump_json()
        write_whole(self._cell(key), lambda path: path.write_text(text, encoding="utf-8"), private=True)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the study."""
        write_whole(self.path / name, lambda path: path.write_text(text, encoding="utf-8"), private=True)
        return self.path / name

    def _take_over(self, key: str) -> None:
        """Copy a cell from one of the other folders if this folder lacks it."""
        path = self._cell(key)
        there = next((one for other in self.beside if (one := other / CELLS / path.name).is_file()), None)
        if there is not None and not path.exists():
            content = there.read_bytes()
            write_whole(path, lambda partial: partial.write_bytes(content))

    def _cell(self, key: str) -> Path:
        return self.path / CELLS / f"{key}.json"


def surroundings(data: DataConfig) -> str:
    """Return the digest of a cell's inputs besides its settings: code with versions (`code`), and the cohort's files.

    Code and data up to `SMALL` bytes are hashed by content. Larger data are hashed by name, size and time of change of
    each file, so that a study with nothing to do need not read all pictures.
    """
    parts = code()
    if data.cohort == SYNTHETIC:
        parts.append(SYNTHETIC)
    else:
        parts += _files(Path(data.cohort).expanduser(), data.root)
    return sha256(json.dumps(parts).encode()).hexdigest()


def _files(cohort: Path, root: str) -> list[str]:
    """Return a line of text per file of a cohort, which changes when the file does."""
    from remind.data.cohort.declaration import read_declaration

    _, folder = read_declaration(cohort, root)
    declaration = cohort / "cohort.toml" if cohort.is_dir() else cohort
    found = {path: path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    small = sum(status.st_size for status in found.values()) <= SMALL
    return [digest(declaration)] + [
        f"{path.relative_to(folder)} {digest(path) if small else (status.st_size, status.st_mtime_ns)}"
        for path, status in found.items()
    ]
