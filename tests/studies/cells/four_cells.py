"""A program that runs four cells in the folder it is given: ``python -m tests.studies.cells.four_cells FOLDER``."""

import sys
from pathlib import Path

from remind_studies.cells.cell import Cell
from remind_studies.cells.folder import StudyFolder
from remind_studies.cells.pool import run_cells
from tests.builders.studies import SMALL


def main() -> None:
    """Run them in two processes."""
    cells = [Cell.of(SMALL | {"seed": seed}, clients=2) for seed in range(4)]
    keys = {cell.key("here"): cell for cell in cells}
    names = {key: f"seed {cell.config.seed}" for key, cell in keys.items()}
    run_cells(keys, names, StudyFolder(Path(sys.argv[1])), 2, lambda line: print(line, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
