"""Runs of studies that an earlier command of any document made: studies keep runs by content, and find these again."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from remind_studies.cells.folder import CELLS, StudyFolder

PROGRAMS = ("benchmarks/options.py", "benchmarks/preset.py")  # benchmarks that are studies


class KnownRuns:
    """A folder with every run so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / CELLS).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def known(self, results: Path) -> Iterator[None]:
        """Let a command find all runs so far, and keep those that it makes; `results`: where it writes its studies."""
        make, known = StudyFolder.__init__, self.folder

        def beside(folder: StudyFolder, path: Path, others: tuple[Path, ...] = (), **named: tuple[Path, ...]) -> None:
            make(folder, path, (*others, *named.get("beside", ()), known))

        with patch.object(StudyFolder, "__init__", beside):
            yield
        for cell in results.glob(f"*/{CELLS}/*.json"):
            if not (self.folder / CELLS / cell.name).exists():
                shutil.copy(cell, self.folder / CELLS)
