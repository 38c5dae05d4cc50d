"""How large an honest site's update and loss are: what the limits of a round (`federation.max-…`) are set from.

    python benchmarks/honest_updates.py                                        # the synthetic cohort, five hospitals
    python benchmarks/honest_updates.py --cohort simulation/cohorts/uci_heart4.toml --clients 4

Trains once, with the default settings but for `-c`, and prints, over all rounds and sites: the size of updates relative
to the model; the largest against the median of its round; and the largest mean loss that a site had of a group of
validation patients, in units of ln(classes). The limits themselves are off.
"""

import argparse
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from torch import Tensor

from remind.config import Config, Scalar
from remind_server.flwr_pairs import read_pairs
from remind_server.records import Observer, RoundRecord
from remind_server.simulate import simulate

OFF: dict[str, Scalar] = {f"federation.{name}": 1e6 for name in ("max-update", "max-update-ratio", "max-loss")}


class Sizes(Observer):
    """What each round's replies measure."""

    def __init__(self) -> None:
        self.sizes: list[float] = []
        self.ratios: list[float] = []
        self.losses: list[float] = []

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Keep sizes, the largest against the median, and the largest mean loss."""
        moved = [size for size in record.update_sizes.values() if size > 0]
        self.sizes += moved
        self.ratios.append(max(moved) / median(moved))
        self.losses += [s.loss for own in record.validation_by_site.values() for s in own.values()]


def main() -> None:
    """Train, and print a row of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", default="synthetic", help="a cohort folder or its cohort.toml")
    parser.add_argument("--clients", type=int, default=5, help="virtual hospitals")
    parser.add_argument("-c", "--run-config", action="append", help="settings of the run, as for flwr run")
    options = parser.parse_args()
    cohort = options.cohort if options.cohort == "synthetic" else str(Path(options.cohort).resolve())
    with tempfile.TemporaryDirectory() as folder:
        own = read_pairs(options.run_config, "-c")
        config = Config.from_flat(OFF | {"data.cohort": cohort, "results": folder} | own)
        seen = Sizes()
        result = simulate(config, options.clients, [seen])
    chance = math.log(len(result.schema.classes))
    print("| cohort | sites | updates: median | largest | largest ÷ median of its round | largest mean loss ÷ ln C |")
    print("|---|---|---|---|---|---|")
    numbers = (median(seen.sizes), max(seen.sizes), max(seen.ratios), max(seen.losses) / chance)
    print(f"| {result.schema.name} | {options.clients} | " + " | ".join(f"{number:.3g}" for number in numbers) + " |")


if __name__ == "__main__":
    main()
