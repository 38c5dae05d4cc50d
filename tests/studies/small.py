"""Cells that take a second or two. As a script: runs four of them in the folder it is given."""

import sys
from pathlib import Path

SMALL = {
    "synthetic.patients": 120,
    "model.width": 8,
    "model.experts": 4,
    "model.heads": 2,
    "model.tokens": 4,
    "train.warmup-rounds": 1,
    "train.routing-rounds": 1,
    "train.local-steps": 2,
    "train.batch": 8,
}


def main() -> None:
    from remind_studies.cells.cell import Cell
    from remind_studies.cells.folder import StudyFolder
    from remind_studies.cells.pool import run_cells

    cells = [Cell.of(SMALL | {"seed": seed}, clients=2) for seed in range(4)]
    keys = {cell.key("here"): cell for cell in cells}
    names = {key: f"seed {cell.config.seed}" for key, cell in keys.items()}
    run_cells(keys, names, StudyFolder(Path(sys.argv[1])), 2, lambda line: print(line, file=sys.stderr, flush=True))


if __name__ == "__main__":
    main()
