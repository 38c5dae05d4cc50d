"""The first prediction from a cold start, in units of `import torch`, for a model of two tables.

    python benchmarks/first_prediction.py

One process imports remind, loads a run, reads 20 patients from files and predicts; another process only imports torch.
Prints the median of their ratio. The model is trained for two short rounds, since the time does not depend on its
quality.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import remind
from remind.config import Config
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort

SETTINGS = {
    "synthetic.patients": 400,
    "synthetic.law": "independent",
    "synthetic.missing": "0.2, 0.4",
    "synthetic.kinds": "table, table",
    "train.warmup-rounds": 1,
    "train.routing-rounds": 1,
    "train.local-steps": 2,
}
TORCH = "import torch"
FIRST = "import sys, remind; remind.load(sys.argv[1], sys.argv[2], device='cpu').predict(sys.argv[3])"


def trained(folder: Path) -> Path:
    return remind.simulate(SETTINGS | {"results": str(folder / "run")}, clients=2).folder


def patients(folder: Path, number: int) -> Path:
    """A cohort folder of new patients."""
    config = Config.from_flat(SETTINGS | {"synthetic.patients": number})
    write_cohort(replace(generate(config.synthetic, 1), split_N=None), folder)
    return folder


def seconds(code: str, *words: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *words], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="cold starts that are timed, of either kind")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run, cohort = str(trained(folder)), str(patients(folder / "new", 20))
        pairs = [(seconds(FIRST, run, "site-1", cohort), seconds(TORCH)) for _ in range(given.repeats)]
        print(f"first prediction ÷ import torch: {statistics.median(a / b for a, b in pairs):.2f}")
        first, torch_alone = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(f"on this machine {first:.1f} s and {torch_alone:.1f} s")


if __name__ == "__main__":
    main()
