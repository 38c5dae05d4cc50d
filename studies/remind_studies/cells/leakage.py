"""The runner of study `leakage`: how many of a group's patients a coordinator finds who holds candidate records."""

import time
from pathlib import Path
from statistics import fmean

import numpy as np

from remind.data.cohort.cohort import TRAIN
from remind.data.sites.hospitals import pool
from remind.errors import UserError
from remind.privacy.attack import Found, guessing, judge
from remind.seeds import derive
from remind.training.private.admission import admit
from remind_client.load import prepare_process
from remind_studies.cells.cell import Cell, CellResult
from remind_studies.cells.observed import VIEWS, Hospital, Integers, Target, View
from remind_studies.cells.patients import hospitals
from remind_studies.cells.train import Traces, result_of

GUESSING = "guessing"


def run(cell: Cell, folder: Path) -> CellResult:
    """Draw members among the training patients of the group, let the coordinator see them, and attack.

    Options: `view`, one of `VIEWS` or `GUESSING`; `group`; `sizes`, numbers of members at a hospital; `draws` of
    members for each; `others`, patients of other groups beside them; `candidates`, at most so many records.

    Raises
    ------
    UserError
        The group has fewer training patients than are to be found.
    """
    began = time.monotonic()
    prepare_process(cell.config.threads)
    patients, options = hospitals(cell), cell.options
    whole = pool(patients).cohort
    target = Target(cell.config, whole, int(options["group"]))
    training_N = np.flatnonzero(whole.split_N == TRAIN)
    of_group = training_N[whole.groups_N[training_N] == target.group]
    rng = np.random.default_rng(derive(cell.config.seed, "candidates"))
    index_N = np.sort(rng.permutation(of_group)[: int(options["candidates"])])
    others = rng.permutation(training_N[whole.groups_N[training_N] != target.group])[: int(options["others"])]
    sizes = [int(size) for size in str(options["sizes"]).split(",")]
    view = str(options["view"])
    if view != GUESSING and cell.config.privacy.mode != "none":
        admit(target.work.model, whole.schema, cell.config)
    seen = None if view == GUESSING else VIEWS[view](target)
    count = 1 if seen is None else seen.hospitals
    facts = {}
    for size in sizes:
        if size * count >= len(index_N):
            continue
        if seen is None:
            found = [guessing(size, len(index_N))]
        else:
            found = attacked(seen, index_N, others, size, int(options["draws"]), cell.config.seed)
        facts[f"named, of {size}"] = fmean(one.named for one in found)
        facts[f"ranked, of {size}"] = fmean(one.ranked for one in found)
    if not facts:
        raise UserError(f"leakage: the group has {len(index_N)} training patients; sizes must be smaller than that")
    facts["candidates"] = float(len(index_N))
    result = result_of(cell, patients, (), Traces(), began)
    return result.model_copy(update={"facts": facts})


def attacked(view: View, index_N: Integers, others: Integers, size: int, draws: int, seed: int) -> list[Found]:
    """Attack groups of so many members at each hospital, drawn again each time, among these candidates."""
    gradient_NP = view.candidates(index_N)
    found = []
    for draw in range(draws):
        rng = np.random.default_rng(derive(seed, "members", size, draw))
        place_n = rng.permutation(len(index_N))[: size * view.hospitals]
        member_N = np.zeros(len(index_N), dtype=bool)
        member_N[place_n] = True
        parts = np.split(np.sort(place_n), view.hospitals)
        seen_P = view.sees([Hospital(index_N[part], others) for part in parts], draw)
        if seen_P is None:
            found.append(guessing(int(member_N.sum()), len(member_N)))
        else:
            found.append(judge(view.attack(seen_P, gradient_NP), member_N))
    return found
