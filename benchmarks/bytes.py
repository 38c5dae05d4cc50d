"""Bytes of a run's tensors, and its scores on test patients, with each way to send them, in one run.

    python benchmarks/bytes.py simulation/cohorts/uci_heart4.toml --seeds 0-4

All runs of a seed have the same split, sites and draws. Prints for each way the bytes to and from sites as a part of
those of float32, and log-loss and AUROC of all test patients, as means over seeds with the standard error of the mean
difference from float32.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from remind.config import Config, Scalar
from remind.metrics.scores import scores
from remind.metrics.statistics import merge, total
from remind_server.outputs.records import Observer, RoundRecord
from remind_server.simulation.flwr_pairs import read_pairs
from remind_server.simulation.simulate import simulate
from remind_studies.bench import read_seeds

WAYS: dict[str, dict[str, Scalar]] = {
    "float32": {},
    "bfloat16": {"federation.dtype": "bfloat16"},
    "int8": {"federation.updates": "int8"},
    "bfloat16, int8": {"federation.dtype": "bfloat16", "federation.updates": "int8"},
}


class Bytes(Observer):
    """Adds up the bytes of the rounds."""

    def __init__(self) -> None:
        self.down = self.up = 0

    def round_done(self, record: RoundRecord, tensors: object) -> None:
        """Add the bytes of a round."""
        self.down += record.bytes_down
        self.up += record.bytes_up


def measure(config: Config, clients: int) -> tuple[float, ...]:
    """Bytes down and up, log-loss and AUROC of one run."""
    counted = Bytes()
    result = simulate(config, clients, [counted])
    everyone = total(merge(result.test.values()))
    assert everyone is not None
    found = scores(everyone)
    assert found.auroc is not None
    return float(counted.down), float(counted.up), everyone.log_loss, found.auroc


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort")
    parser.add_argument("--clients", type=int, default=4, help="hospitals of the cohort")
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("-c", "--run-config", action="append", help="settings of every run, as for flwr run")
    given = parser.parse_args()
    common = read_pairs(given.run_config, "-c")
    seeds = read_seeds(given.seeds, 1)
    found = np.zeros((len(WAYS), len(seeds), 4))
    for i, own in enumerate(WAYS.values()):
        for j, seed in enumerate(seeds):
            with tempfile.TemporaryDirectory() as place:
                fixed = {"data.cohort": str(Path(given.cohort).resolve()), "results": f"{place}/run", "seed": seed}
                found[i, j] = measure(Config.from_flat({**common, **fixed, **own}), given.clients)
    print("| sent as | bytes down | bytes up | log-loss | AUROC |\n|---|---|---|---|---|")
    for way, runs in zip(WAYS, found, strict=True):
        change = runs - found[0]
        spread = change.std(axis=0, ddof=1) / np.sqrt(len(seeds)) if len(seeds) > 1 else np.zeros(4)
        parts = [f"{runs[:, k].sum() / found[0, :, k].sum():.3f}" for k in (0, 1)]
        means = [f"{runs[:, k].mean():.4f} ({change[:, k].mean():+.4f} ± {spread[k]:.4f})" for k in (2, 3)]
        print(f"| {way} | " + " | ".join([*parts, *means]) + " |")


if __name__ == "__main__":
    main()
