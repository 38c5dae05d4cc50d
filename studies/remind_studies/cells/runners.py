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
    "yardstick": "remind_studies.cells.yardstick:run",
}


def run(cell: Cell, folder: Path) -> CellResult:
    """Do the work of a cell; `folder` is empty, and may be removed afterwards.

    Raises
    ------
    UserError
        What the user asked for cannot be done.
    """
    module, _, name = RUNNERS[cell.runner].partition(":")
    runner: Runner = getattr(importlib.import_module(module), name)
    return runner(cell, folder)
