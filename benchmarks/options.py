"""What options of the model are worth: each on validation patients, and the choice that they lead to on test patients.

    python benchmarks/options.py simulation/cohorts/uci_heart4.toml --seeds 0-4 \
        --try "defaults:" --try "dropped: method.fusion='remind(modality-dropout = 0.3)'"
    python benchmarks/options.py simulation/cohorts/cinc2012_icu.toml --seeds 0 --patients 0.35 \
        --try "defaults:" --try "alone: model.encoders.alone=trees"

Prints the mean over seeds of the AUROC of everybody, of all tail patients, and of tail groups (their mean), of
validation and of test patients. The last row is nested: for each seed the option that is best on the validation
patients of that seed (mean of the three columns), on its test patients, who had no part in the choice. `--patients`
thins the training patients, so that large cohorts can be searched quickly.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

from remind import groups
from remind.data.cohort.cohort import TRAIN
from remind.data.sites.sites import Site as Hospital
from remind.errors import UserError
from remind.metrics.scores import scores
from remind.metrics.statistics import GroupStatistics, merge, total
from remind_server.simulation.flwr_pairs import read_pairs
from remind_studies.bench import read_seeds
from remind_studies.cells.cell import Cell
from remind_studies.cells.patients import hospitals
from remind_studies.cells.train import federate

Three = tuple[float, float, float]
NAN = float("nan")


def main() -> None:
    """Train every option with every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", help="a cohort folder or its cohort.toml")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--patients", type=float, default=1.0, help="share of the training patients that is used")
    parser.add_argument("--try", dest="options", action="append", required=True, help="name: settings, as for flwr run")
    parser.add_argument("-c", "--run-config", action="append", help="settings of every run, as for flwr run")
    given = parser.parse_args()
    common = {**read_pairs(given.run_config, "-c"), "data.cohort": str(Path(given.cohort).resolve())}
    seeds = read_seeds(given.seeds, 1)
    found: dict[str, list[tuple[Three, Three]]] = {}
    print(f"| {len(seeds)} seeds: everybody / tail patients / mean of tail groups | validation | test |\n|---|---|---|")
    for option in given.options:
        name, _, settings = option.partition(":")
        own = read_pairs([settings] if settings.strip() else None, "--try")
        found[name] = [outcome(Cell.of({**common, **own, "seed": seed}), given.patients) for seed in seeds]
        print(f"| {name} | {shown([v for v, _ in found[name]])} | {shown([t for _, t in found[name]])} |", flush=True)
    best = [max(found.values(), key=lambda by_seed, i=i: np.nanmean(by_seed[i][0]))[i] for i in range(len(seeds))]
    print(f"| *best of each seed's validation* | {shown([v for v, _ in best])} | {shown([t for _, t in best])} |")


def outcome(cell: Cell, share: float) -> tuple[Three, Three]:
    """The scores of validation and of test patients."""
    sites = [thinned(hospital, share) for hospital in hospitals(cell)]
    with tempfile.TemporaryDirectory() as folder:
        result = federate(cell.config, sites, Path(folder)).result
    tail = groups.tail(result.counts)
    return three(result.validation, tail), three(result.test, tail)


def thinned(hospital: Hospital, share: float) -> Hospital:
    """The hospital with this share of its training patients, drawn alike for every option."""
    cohort = hospital.cohort
    assert cohort.split_N is not None
    kept_N = (cohort.split_N != TRAIN) | (np.random.default_rng(7).random(len(cohort)) < share)
    return replace(hospital, cohort=cohort.take(np.flatnonzero(kept_N)))


def three(by_site: Mapping[str, Mapping[int, GroupStatistics]], tail: frozenset[int] | set[int]) -> Three:
    """AUROC of everybody, of all tail patients, and its mean over tail groups."""
    statistics = merge(by_site.values())

    def area(chosen: Mapping[int, GroupStatistics]) -> float:
        whole = total(chosen)
        value = None if whole is None else scores(whole).auroc
        return NAN if value is None else value

    rare = {k: s for k, s in statistics.items() if k in tail}
    each = [value for k, s in rare.items() if not np.isnan(value := area({k: s}))]
    return area(statistics), area(rare), fmean(each) if each else NAN


def shown(values: Sequence[Three]) -> str:
    """Means over seeds, as a cell of the table."""
    return " / ".join(f"{value:.3f}" for value in np.nanmean(values, axis=0))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
