"""Memory and time of one simulation in this process: with many hospitals, many rounds or many patients.

    python benchmarks/scale.py --sites 1000 --rounds 100 --patients 30
    python benchmarks/scale.py --sites 10 --rounds 3 --patients 100000

Synthetic tables, a small REMIND, one step per round and hospital, the usual results folder and checkpoints. Printed are
the memory in use after the tenth round (or half of them, if they are fewer than twenty) and after the last one, the
peak, and the processor seconds of a round. A run that keeps something of every round grows between the two.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median

from torch import Tensor
from typing_extensions import override

from remind.config import Config
from remind_server.outputs.records import Observer, RoundRecord
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.checkpoints import Checkpoints
from remind_server.simulation.simulate import simulate

SETTLED = 10  # rounds after which everything that is made once is there


class Watch(Observer):
    """Notes memory in use and processor time after each round."""

    def __init__(self) -> None:
        self.memory: list[int] = []
        self.cpu: list[float] = []

    @override
    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        if record.absent:
            raise ValueError(f"not all hospitals answered: {dict(record.absent)}")
        self.memory.append(in_use())
        self.cpu.append(time.process_time())


def in_use() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()


def settings(sites: int, rounds: int, patients: int, participation: float) -> Config:
    """Return the settings of the run."""
    return Config.from_flat(
        {
            "device": "cpu",
            "synthetic.patients": sites * patients,
            "synthetic.kinds": "table, table, table, table",
            "data.alpha": 1e6,
            "federation.participation": participation,
            "model.width": 8,
            "model.heads": 2,
            "model.experts": 2,
            "model.tokens": 2,
            "train.warmup-rounds": rounds - rounds // 2,
            "train.routing-rounds": rounds // 2,
            "train.local-steps": 1,
            "train.batch": 16,
        }
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--patients", type=int, default=30, help="patients of a hospital")
    parser.add_argument("--participation", type=float, default=1.0, help="share of the hospitals in a round")
    given = parser.parse_args()
    if given.rounds < 2:
        parser.error("--rounds: give 2 or more")
    watch = Watch()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        config = settings(given.sites, given.rounds, given.patients, given.participation)
        config = config.model_copy(update={"results": str(folder)})
        simulate(config, given.sites, [RunFolder(folder), watch], checkpoints=Checkpoints(folder))
    settled = min(SETTLED, given.rounds // 2)
    first, last = watch.memory[settled - 1], watch.memory[-1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = median(b - a for a, b in pairwise(watch.cpu))
    print(f"{given.sites:,} hospitals of {given.patients:,} patients, {given.rounds} rounds\n")
    print(f"| memory after round {settled}, MiB | after the last, MiB | ratio | peak, MiB | CPU s per round |")
    print("|---|---|---|---|---|")
    print(f"| {first / 2**20:.0f} | {last / 2**20:.0f} | {last / first:.3f} | {peak / 2**20:.0f} | {seconds:.3g} |")


if __name__ == "__main__":
    main()
