"""Federated REMIND between its two anchors: each hospital alone, and all patients in one place.

    python benchmarks/anchors.py simulation/cohorts/uci_heart4.toml --seeds 0 1 2

Same model, splits, test patients and budget: rounds × local steps, where a step of the pooled model sees as many
patients as the steps of all hospitals together; measured hospital by hospital.
Per seed and on average: AUROC and balanced accuracy of all test patients, and their mean over the hospitals where they
are defined. Scores are of the test split; nothing is selected on it.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from remind.config import Config
from remind.data.cohort import TEST, concatenate
from remind.data.hospitals import virtual_hospitals
from remind.data.sites import Site as Hospital
from remind.errors import UserError
from remind.metrics.scores import scores
from remind.metrics.statistics import GroupStatistics, merge, total
from remind.training.device import choose_device
from remind_client.app import client_app
from remind_client.load import limit_threads
from remind_client.site import Site
from remind_client.store import SiteStore
from remind_server.flwr_pairs import read_pairs
from remind_server.local_grid import LocalGrid
from remind_server.strategy import FedRemind

Statistics = Mapping[int, GroupStatistics]
COLUMNS = ("AUROC, all", "AUROC, mean of sites", "balanced acc., all", "balanced acc., mean of sites")


def run(hospitals: Sequence[Hospital], config: Config) -> tuple[dict[str, Statistics], list[Site]]:
    """Test statistics per hospital of one federation, and the sites with the encoders they ended with."""
    with tempfile.TemporaryDirectory() as folder:
        device, root = choose_device(config.device), Path(folder)
        sites = [Site(h.name, h.cohort, config, SiteStore(root / str(i)), device) for i, h in enumerate(hospitals)]
        grid = LocalGrid(client_app(lambda context: sites[int(context.node_config["partition-id"])]), len(sites), {}, 1)
        result = FedRemind(config).run(grid)
    if result.absent:
        raise UserError(f"not all hospitals took part: {result.absent}")
    return dict(result.test), sites


def local(hospitals: Sequence[Hospital], config: Config) -> dict[str, Statistics]:
    """Each hospital alone, with the steps it takes in the federation."""
    return {h.name: run([h], config)[0][h.name] for h in hospitals}


def federated(hospitals: Sequence[Hospital], config: Config) -> dict[str, Statistics]:
    """All hospitals, by `FedRemind`."""
    return run(hospitals, config)[0]


def federated_shared(hospitals: Sequence[Hospital], config: Config) -> dict[str, Statistics]:
    """All hospitals, by `FedRemind`, encoders federated too."""
    federation = config.federation.model_copy(update={"encoders": "shared"})
    return run(hospitals, config.model_copy(update={"federation": federation}))[0]


def pooled(hospitals: Sequence[Hospital], config: Config) -> dict[str, Statistics]:
    """All patients in one place: as many steps, each on as many patients as all hospitals' steps together."""
    batch = config.train.batch * len(hospitals)
    config = config.model_copy(update={"train": config.train.model_copy(update={"batch": batch})})
    whole = concatenate([h.cohort for h in hospitals])
    _, (site,) = run([Hospital("pooled", whole)], config)
    edges = np.cumsum([0, *(len(h.cohort) for h in hospitals)])
    test = np.flatnonzero(whole.split_N == TEST) if whole.split_N is not None else np.arange(0)
    return {
        h.name: site.measure(test[(test >= start) & (test < stop)], config.train.routing_rounds > 0)
        for h, start, stop in zip(hospitals, edges[:-1], edges[1:], strict=True)
    }


RULES: Mapping[str, Callable[[Sequence[Hospital], Config], Mapping[str, Statistics]]] = {
    "local": local,
    "federated": federated,
    "federated, encoders shared": federated_shared,
    "pooled": pooled,
}


def row(test: Mapping[str, Statistics]) -> list[float]:
    """The four columns of one run."""
    everyone = total(merge(test.values()))
    per_site = [scores(statistics) for one in test.values() if (statistics := total(one)) is not None]
    if everyone is None:
        raise UserError("no test patients")
    overall = scores(everyone)
    return [
        overall.auroc or float("nan"),
        fmean(s.auroc for s in per_site if s.auroc is not None),
        overall.balanced_accuracy or float("nan"),
        fmean(s.balanced_accuracy for s in per_site if s.balanced_accuracy is not None),
    ]


def measure(seed: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """The columns of every rule for one seed."""
    settings = read_pairs(options.run_config, "-c") | {"data.cohort": options.cohort, "seed": seed}
    config = Config.from_flat(settings)
    limit_threads(config.threads)
    hospitals = virtual_hospitals(config.data, config.synthetic, seed, options.num_clients)
    found = {}
    for rule in options.rules:
        started = time.monotonic()
        found[rule] = row(RULES[rule](hospitals, config))
        shown = "  ".join(f"{value:.3f}" for value in found[rule])
        print(f"seed {seed}  {rule:<26} {shown}  ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", help="a cohort folder or its cohort.toml; or 'synthetic'")
    parser.add_argument("--num-clients", type=int, help="hospitals, where they are drawn")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--jobs", type=int, default=1, help="seeds measured at a time, a process each")
    parser.add_argument("-c", "--run-config", action="append", help="settings, as for flwr run")
    parser.add_argument("--json", type=Path, help="write the rows of every seed here")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        of_seed = list(pool.map(partial(measure, options=options), options.seeds))
    found = {rule: [one[rule] for one in of_seed] for rule in options.rules}
    print(f"| {Path(options.cohort).stem}, {len(options.seeds)} seeds | " + " | ".join(COLUMNS) + " |")
    print("|---" * (1 + len(COLUMNS)) + "|")
    for rule, rows in found.items():
        cells = [f"{fmean(c):.3f} ± {stdev(c) if len(c) > 1 else 0:.3f}" for c in zip(*rows, strict=True)]
        print(f"| {rule} | " + " | ".join(cells) + " |")
    if options.json:
        options.json.write_text(json.dumps({"columns": COLUMNS, "seeds": options.seeds, "rows": found}, indent=1))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
