"""The size of an honest site's update and loss, from which the limits of a round (`federation.max-…`) are set.

    python benchmarks/honest_updates.py                                        # the synthetic cohort, five hospitals
    python benchmarks/honest_updates.py --cohort simulation/cohorts/uci_heart4.toml --clients 4

Trains once with the default settings and those of `-c`. Prints over all rounds and sites: the size of updates relative
to the model; the largest ratio of a block's update to the median of that block in its round; the same ratio for updates
that are large enough to be compared; and the largest mean loss of a group's validation patients at a site, in units of
ln(classes). The limits themselves are off.
"""

import argparse
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from torch import Tensor

from remind.config import Config, FederationConfig, Scalar
from remind_server.outputs.records import Observer, RoundRecord
from remind_server.rounds.outliers import HARMLESS
from remind_server.simulation.flwr_pairs import read_pairs
from remind_server.simulation.simulate import simulate

OFF: dict[str, Scalar] = {f"federation.{name}": 1e6 for name in ("max-update", "max-update-ratio", "max-loss")}
COMPARED = HARMLESS * FederationConfig().max_update


class Sizes(Observer):
    """What each round's replies measure."""

    def __init__(self) -> None:
        self.sizes: list[float] = []
        self.ratios: list[float] = []
        self.compared: list[float] = []
        self.losses: list[float] = []

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Keep sizes, blocks in medians of the same block's, and mean losses."""
        self.sizes += [size for size in record.update_sizes.values() if size > 0]
        self.ratios += record.update_ratios.values()
        self.compared += [r for name, r in record.update_ratios.items() if record.update_sizes[name] > COMPARED]
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
    columns = (
        ("updates: median", median(seen.sizes)),
        ("largest", max(seen.sizes)),
        ("largest block ÷ its median", max(seen.ratios)),
        (f"of updates over {COMPARED:g}", max(seen.compared, default=math.nan)),
        ("largest mean loss ÷ ln C", max(seen.losses) / chance),
    )
    print("| cohort | sites | " + " | ".join(name for name, _ in columns) + " |")
    print("|---|" + "---|" * (1 + len(columns)))
    numbers = " | ".join("–" if math.isnan(number) else f"{number:.3g}" for _, number in columns)
    print(f"| {result.schema.name} | {options.clients} | {numbers} |")


if __name__ == "__main__":
    main()
