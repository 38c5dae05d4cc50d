"""Choose settings on validation patients, one choice for all cohorts, and evaluate the choice on test patients.

    python benchmarks/options.py simulation/cohorts/uci_heart4.toml simulation/cohorts/cinc2012_icu.toml --seeds 0-4 \
        --methods "remind, softmoe" --try "defaults:" --try "alone: model.encoders.alone='both'" \
        --try "dropout: method.fusion='{fusion}(modality-dropout = 0.3)'"

An option has a name and settings as for `flwr run`: pairs, a file or a preset, or several of these after semicolons
(`--try "mine: recommended; train.lr=0.001"`). `{fusion}` is the method's fusion model; of another model that a preset
names, a method takes the options alone. Every method of `--methods` (as for `remind bench`) tries the same options, so
all have the same budget. A table for each cohort and method has the AUROC of all patients, of all tail patients, and
the mean over tail groups with at least ten patients, on validation and on test patients, as means over seeds. The row
*chosen* is nested: each seed's test patients are scored by the option that is best on that seed's validation patients
of all cohorts together. The best option has the largest mean over cohorts of the mean of the three columns, each minus
the first option's. No test patient therefore affects the choice. The last lines name the option that is best on the
validation patients of all seeds and cohorts: the preset. Stored runs are not repeated, so an interrupted command
continues where it was; `results/options-COHORT` has them.
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from remind import groups
from remind.config import Config, Scalar
from remind.errors import UserError
from remind.metrics.scores import scores
from remind.metrics.statistics import GroupStatistics, merge, total
from remind_server.simulation.flwr_pairs import read_pairs
from remind_server.simulation.flwr_plan import cohort_name
from remind_studies.arms import read_arms
from remind_studies.bench import read_seeds
from remind_studies.cells.cell import BySite, Cell
from remind_studies.cells.folder import StudyFolder, surroundings
from remind_studies.cells.pool import run_cells
from remind_studies.study import Arm
from remind_studies.tuning import LEAST

Three = tuple[float, float, float]
Pair = tuple[Three, Three]  # of validation, of test patients
NAN = float("nan")
PART = re.compile(r""";(?=(?:[^'"]|'[^']*'|"[^"]*")*$)""")  # semicolons outside of quotation marks


def main() -> None:
    """Run what is lacking, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", nargs="+", help="cohort folders or their cohort.toml")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--try", dest="options", action="append", required=True, help="name: settings, as for flwr run")
    parser.add_argument("--methods", default="remind", help="methods that try them, as for remind bench")
    parser.add_argument("-c", "--run-config", action="append", help="settings of every run, as for flwr run")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    common, seeds = read_pairs(given.run_config, "-c"), read_seeds(given.seeds, 1)
    options: dict[str, dict[str, Scalar]] = {}
    for option in given.options:
        name, _, settings = option.partition(":")
        options[name.strip()] = read_pairs([part.strip() for part in PART.split(settings) if part.strip()], "--try")
    places = {place: {**common, "data.cohort": str(Path(place).resolve())} for place in given.cohorts}
    chosen = []
    for method in read_arms(given.methods, common):
        own = {name: filled(method, settings) for name, settings in options.items()}
        found = {place: outcomes(settings, own, seeds, given.jobs) for place, settings in places.items()}
        worth = {name: [gain(found, name, i, next(iter(own))) for i in range(len(seeds))] for name in own}
        best = [max((worth[name][i], -place, name) for place, name in enumerate(own))[2] for i in range(len(seeds))]
        for place, rows in found.items():
            name = f"{method.name} on {cohort_name(Config.from_flat(places[place]))}"
            print(
                f"| {name}, {len(seeds)} seeds: everybody / tail patients / mean of tail groups | validation | test |"
            )
            print("|---|---|---|")
            for option, by_seed in rows.items():
                print(f"| {option} | {shown([v for v, _ in by_seed])} | {shown([t for _, t in by_seed])} |")
            nested = [rows[option][i] for i, option in enumerate(best)]
            print(f"| *chosen* | {shown([v for v, _ in nested])} | {shown([t for _, t in nested])} |\n", flush=True)
        preset = max(own, key=lambda name: fmean(worth[name]))
        chosen.append(f"{method.name}: chosen by seed: {', '.join(best)}; on the validation patients of all: {preset}.")
    print("\n".join(chosen))


def filled(method: Arm, settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The settings of a method with an option; the option's count more, but a method stays what it is."""
    fusion = str(method.settings["method.fusion"]).partition("(")[0].strip()
    own = {key: v.replace("{fusion}", fusion) if isinstance(v, str) else v for key, v in settings.items()}
    if "method.fusion" in own:  # a preset names the model that it was chosen for
        _, bracket, options = str(own["method.fusion"]).partition("(")
        own["method.fusion"] = fusion + bracket + options
    return {**method.settings, **own}


def outcomes(
    common: Mapping[str, Scalar], options: Mapping[str, Mapping[str, Scalar]], seeds: Sequence[int], jobs: int
) -> dict[str, list[Pair]]:
    """By option, the scores of each seed on one cohort."""
    config = Config.from_flat(dict(common))
    folder, around = StudyFolder(Path("results") / f"options-{cohort_name(config)}"), surroundings(config.data)
    cells = {(name, s): Cell.of({**common, **own, "seed": s}) for s in seeds for name, own in options.items()}
    keys = {which: cell.key(around) for which, cell in cells.items()}
    with folder.held():
        failed = run_cells(
            {keys[which]: cell for which, cell in cells.items()},
            {keys[which]: f"{which[0]}, seed {which[1]}" for which in cells},
            folder,
            jobs,
            lambda text: print(text, file=sys.stderr, flush=True),
        )
    if failed:
        raise UserError(next(iter(failed.values())))
    found: dict[str, list[Pair]] = {name: [] for name in options}
    for (name, _), key in keys.items():
        result = folder.find(key)
        assert result is not None
        tail, outcome = groups.tail(result.counts), result.outcomes[0]
        found[name].append((three(outcome.validation, tail), three(outcome.test, tail)))
    return found


def gain(found: Mapping[str, Mapping[str, Sequence[Pair]]], name: str, i: int, first: str) -> float:
    """What an option gains over the first on the validation patients of the i-th seed, mean over cohorts."""
    return fmean(float(np.nanmean(np.subtract(rows[name][i][0], rows[first][i][0]))) for rows in found.values())


def three(by_site: BySite, tail: frozenset[int] | set[int]) -> Three:
    """AUROC of everybody, of all tail patients, and its mean over tail groups that are large enough."""
    statistics = merge({k: e.value() for k, e in own.items()} for own in by_site.values())

    def area(chosen: Mapping[int, GroupStatistics]) -> float:
        whole = total(chosen)
        value = None if whole is None else scores(whole).auroc
        return NAN if value is None else value

    rare = {k: s for k, s in statistics.items() if k in tail}
    each = [value for k, s in rare.items() if s.count >= LEAST and not np.isnan(value := area({k: s}))]
    return area(statistics), area(rare), fmean(each) if each else NAN


def shown(values: Sequence[Three]) -> str:
    """Means over seeds, as a cell of the table; a dash where a score is undefined for every seed."""
    columns = [[value for value in column if not np.isnan(value)] for column in zip(*values, strict=True)]
    return " / ".join(f"{fmean(column):.3f}" if column else "–" for column in columns)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
