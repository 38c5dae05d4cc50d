"""The registry of runners. A runner takes a cell and a folder, and returns the cell's result."""

import importlib
from collections.abc import Callable
from pathlib import Path

from remind_studies.cells.cell import Cell, CellResult

Runner = Callable[[Cell, Path], CellResult]
RUNNERS = {
    "train": "remind_studies.cells.train:run",
    "adapt": "remind_studies.cells.adapt:run",
    "unseen": "remind_studies.cells.unseen:run",
    "calibration": "remind_studies.cells.calibration:run",
    "cost": "remind_studies.cells.cost:run",
    "private": "remind_studies.cells.private:run",
    "leakage": "remind_studies.cells.leakage:run",
    "yardstick": "remind_studies.cells.yardstick:run",
}


def run(cell: Cell, folder: Path) -> CellResult:
    """Run a cell; `folder` is empty, and may be removed afterwards.

    Raises
    ------
    UserError
        A setting, or its combination with the cohort, is not valid.
    """
    module, _, name = RUNNERS[cell.runner].partition(":")
    runner: Runner = getattr(importlib.import_module(module), name)
    return runner(cell, folder)
