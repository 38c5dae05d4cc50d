"""Peak memory of predicting for 100 000 patients, in units of that for 10 000, from .parquet and from .csv.

python benchmarks/prediction_memory.py
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from first_prediction import patients, trained

STREAM = (
    "import resource, sys, remind; from pathlib import Path; from remind.prediction.command import run_prediction;"
    "run_prediction(remind.load(sys.argv[1], sys.argv[2], device='cpu'), sys.argv[3], Path(sys.argv[4]), '', True);"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def peak(*words: str) -> int:
    """Peak memory in KiB of a process that predicts."""
    done = subprocess.run([sys.executable, "-c", STREAM, *words], check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1])


def as_csv(folder: Path) -> None:
    for path in folder.glob("*.parquet"):
        pd.read_parquet(path).to_csv(path.with_suffix(".csv"), index=False)
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=10_000, help="patients of the smaller cohort")
    parser.add_argument("--many", type=int, default=100_000, help="patients of the larger one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run, sizes = str(trained(folder)), (given.few, given.many)
        cohorts = [patients(folder / str(number), number) for number in sizes]
        print(f"| files | peak memory of {given.many:,} patients ÷ that of {given.few:,} |\n|---|---|")
        for kind in (".parquet", ".csv"):
            few, many = (peak(run, "site-1", str(cohort), f"{cohort}{kind}.csv") for cohort in cohorts)
            print(f"| {kind} | {many / few:.2f} |")
            for cohort in cohorts:
                as_csv(cohort)


if __name__ == "__main__":
    main()
