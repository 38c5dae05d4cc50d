"""Compare REMIND's own settings on rare combinations of validation patients: the choice of its defaults.

    python benchmarks/preset.py simulation/cohorts/uci_heart4.toml --seeds 0-4
    python benchmarks/preset.py simulation/cohorts/nhanes_2017_2020.toml --seeds 0 \
        -c 'model.tokens=4 train.weight-decay=0.05 train.lr=0.001'

Prints the AUROC of the validation patients of all seeds and hospitals: the mean over tail groups with at least ten
patients (by which the defaults were chosen), of all tail patients together, and of all patients; and the loss of tail
patients. Stored runs are not repeated.
"""

import argparse
import os
import sys
from pathlib import Path

from remind import groups
from remind.config import Config
from remind.errors import UserError
from remind.metrics.scores import scores
from remind.metrics.statistics import merge, total
from remind_server.simulation.flwr_pairs import read_pairs
from remind_server.simulation.flwr_plan import cohort_name
from remind_studies.arms import read_arms
from remind_studies.bench import read_seeds
from remind_studies.cells.cell import Cell, CellResult
from remind_studies.cells.folder import StudyFolder, surroundings
from remind_studies.cells.pool import run_cells
from remind_studies.tuning import judge, training_counts

PROPORTIONAL: dict[str, str | float | bool] = {"dro.initial": "proportional"}
REMIND: dict[str, str | float | bool] = {  # with the paper's λ₀ and one learning rate for all parts
    "method.fusion": "remind",
    "method.objective": "groupdro",
    "method.rule": "fedremind",
    "dro.initial": "uniform",
    "train.residual-rate": 1.0,
}
DEFAULTS = "λ₀ ∝ n_k, residual rate 5 (defaults)"
CANDIDATES: dict[str, dict[str, str | float | bool]] = {
    "λ₀ uniform (the paper's)": REMIND,
    "λ₀ ∝ √n_k": REMIND | {"dro.initial": "sqrt"},
    "λ₀ ∝ n_k": REMIND | PROPORTIONAL,
    "λ₀ ∝ n_k, γ = 0.1": REMIND | PROPORTIONAL | {"dro.gamma": 0.1},
    "λ₀ ∝ n_k, γ = 0.1, floor 0.7": REMIND | PROPORTIONAL | {"dro.gamma": 0.1, "dro.floor": 0.7},
    "λ₀ ∝ n_k, γ = 0.1, regret on validation": REMIND
    | PROPORTIONAL
    | {"dro.gamma": 0.1, "dro.regret": True, "dro.risk": "validation"},
    "λ₀ ∝ n_k, gate always, routing-lr × 5": REMIND | PROPORTIONAL | {"model.gate": "always", "train.routing-lr": 5e-4},
    "λ₀ ∝ n_k, router scale 0.5": REMIND | PROPORTIONAL | {"model.router-scale": 0.5},
    DEFAULTS: REMIND | PROPORTIONAL | {"train.residual-rate": 5.0},
    "Soft MoE, for comparison": dict(read_arms("softmoe", {})[0].settings),
}


def main() -> None:
    """Run what is lacking, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", help="a cohort folder or its cohort.toml")
    parser.add_argument("--seeds", default="5")
    parser.add_argument("-c", "--run-config", action="append", help="settings of every run, as for flwr run")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    common = {**read_pairs(options.run_config, "-c"), "data.cohort": str(Path(options.cohort).resolve())}
    config, seeds = Config.from_flat(common), read_seeds(options.seeds, 5)
    folder, around = StudyFolder(Path("results") / f"preset-{cohort_name(config)}"), surroundings(config.data)
    cells = {(n, s): Cell.of({**common, **own, "seed": s}) for s in seeds for n, own in CANDIDATES.items()}
    keys = {which: cell.key(around) for which, cell in cells.items()}
    with folder.held():
        failed = run_cells(
            {keys[which]: cell for which, cell in cells.items()},
            {keys[which]: f"{which[0]}, seed {which[1]}" for which in cells},
            folder,
            options.jobs,
            lambda text: print(text, file=sys.stderr, flush=True),
        )
    if failed:
        raise UserError(next(iter(failed.values())))
    print(
        f"| {cohort_name(config)}, validation, {len(seeds)} seeds | mean tail | tail patients | everybody | tail loss |"
    )
    print("|---" * 5 + "|")
    for name in CANDIDATES:
        found = [result for s in seeds if (result := folder.find(keys[name, s])) is not None]
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in row(found)) + " |")


def row(found: list[CellResult]) -> tuple[float, float, float, float]:
    """The four columns."""
    statistics = merge(
        {k: e.value() for k, e in own.items()} for r in found for own in r.outcomes[0].validation.values()
    )
    tail = total({k: s for k, s in statistics.items() if k in groups.tail(training_counts(found))})
    everybody = total(statistics)
    assert tail is not None
    assert everybody is not None
    nan = float("nan")
    return judge(found, "auroc"), scores(tail).auroc or nan, scores(everybody).auroc or nan, tail.loss


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
