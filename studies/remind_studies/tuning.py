"""Tune every method with the same budget.

Try a number of settings, and compare them on validation patients of other seeds.

The first trial of a method uses its given settings. The others draw from a space that all methods share and, if a
method has its own hyperparameters, from these. Trials are compared by the primary measure: the mean over tail groups.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from remind import groups
from remind.config import Config, Scalar
from remind.errors import UserError
from remind.metrics.scores import EVERY, scores
from remind.metrics.statistics import GroupStatistics, merge, total
from remind.seeds import derive
from remind_studies.cells.cell import Cell, CellResult
from remind_studies.cells.folder import StudyFolder
from remind_studies.cells.patients import folds
from remind_studies.cells.pool import run_cells
from remind_studies.study import Arm, Request

DEFAULTS_FROM = ("uci_heart4", "nhanes_2017_2020")  # cohorts on whose validation patients the defaults were chosen
SEEDS = 2  # trainings of each trial
LEAST = 10  # least number of validation patients, over these seeds together, for a tail group to count
FACTORS: dict[str, tuple[float, ...]] = {  # of what is configured
    "train.lr": (0.3, 1.0, 3.0),
    "train.weight-decay": (0.1, 1.0),
}
VALUES: dict[str, tuple[Scalar, ...]] = {"model.dropout": (0.0, 0.2, 0.4)}
OWN: dict[str, dict[str, tuple[Scalar, ...]]] = {  # by fusion model or objective
    "remind": {"train.routing-lr": (1e-4, 3e-4, 1e-3), "model.gate": ("entropy", "always")},
    "groupdro": {"dro.gamma": (0.02, 0.1, 0.5), "dro.initial": ("uniform", "sqrt", "proportional")},
}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Tuning:
    """The result of tuning.

    Attributes
    ----------
    budget
        Trials of each method; 0: there was no tuning.
    seeds
        Seeds whose validation patients decided.
    chosen
        Changed settings of the best trial of each method.
    """

    budget: int
    seeds: tuple[int, ...]
    chosen: Mapping[str, Mapping[str, Scalar]]

    @classmethod
    def none(cls, arms: tuple[Arm, ...]) -> "Tuning":
        """Return the result without tuning: every method with its given settings."""
        return cls(0, (), {arm.name: {} for arm in arms})

    def applied(self, request: Request) -> Request:
        """Return the request with the tuned methods."""
        arms = tuple(
            arm.model_copy(update={"settings": {**arm.settings, **self.chosen[arm.name]}}) for arm in request.arms
        )
        return replace(request, arms=arms)

    def described(self, cohort: str) -> dict[str, Any]:
        """Describe it for the report; on a cohort that chose the defaults, nothing that runs with them is untuned."""
        text = (
            f"{self.budget} settings tried for each method, the first the method as given, each trained with the seeds "
            f"{', '.join(map(str, self.seeds))}; the best mean over tail groups on their validation patients won."
            if self.budget
            else "This study tuned no method: each ran with the settings below."
        )
        return {
            "budget": self.budget,
            "text": text,
            "chosen": {name: dict(c) for name, c in self.chosen.items()},
            "defaults_from_here": cohort in DEFAULTS_FROM,
        }


def tune_arms(request: Request, budget: int, folder: StudyFolder, around: str, jobs: int, say: Say) -> Tuning:
    """Try `budget` settings for each method.

    Raises
    ------
    UserError
        A trial could not be run.
    """
    seeds = _seeds(request)
    tried: dict[str, list[dict[str, Scalar]]] = {
        arm.name: [{}] if arm.runner else trials(arm, request.config, budget) for arm in request.arms
    }
    cells: dict[str, Cell] = {}
    names: dict[str, str] = {}
    for arm in (one for one in request.arms if not one.runner):  # a yardstick chooses its settings by itself
        for number, changes in enumerate(tried[arm.name]):
            for seed in seeds:
                cell = _cell(request, arm, changes, seed)
                cells[cell.key(around)] = cell
                names[cell.key(around)] = f"tuning {arm.name}, trial {number + 1} of {budget}, seed {seed}"
    if failed := run_cells(cells, names, folder, jobs, say):
        key, reason = next(iter(failed.items()))
        raise UserError(f"{names[key]}: {reason}")
    chosen: dict[str, dict[str, Scalar]] = {arm.name: {} for arm in request.arms}
    for arm in (one for one in request.arms if not one.runner):
        judged = []
        for changes in tried[arm.name]:
            found = [folder.find(_cell(request, arm, changes, seed).key(around)) for seed in seeds]
            judged.append(judge([result for result in found if result is not None], request.metric))
        chosen[arm.name] = tried[arm.name][max(range(len(judged)), key=lambda i: (judged[i], -i))]
    return Tuning(budget, seeds, chosen)


def trials(arm: Arm, config: Config, budget: int) -> list[dict[str, Scalar]]:
    """Return different settings to try for a method; fewer than `budget` if its space is smaller."""
    configured = config.flat() | arm.settings
    space: dict[str, tuple[Scalar, ...]] = {
        key: tuple(float(configured[key]) * factor for factor in factors) for key, factors in FACTORS.items()
    }
    space |= VALUES
    for key in ("method.fusion", "method.objective"):
        space |= OWN.get(str(configured[key]).partition("(")[0].strip(), {})
    rng = np.random.default_rng(derive(0, "tuning", *sorted(space)))
    found: list[dict[str, Scalar]] = [{}]
    for _ in range(100 * budget):
        if len(found) >= budget:
            break
        drawn = {key: values[int(rng.integers(len(values)))] for key, values in space.items()}
        if drawn not in found:
            found.append(drawn)
    return found


def judge(results: list[CellResult], metric: str) -> float:
    """Return the mean over tail groups of the metric on validation patients of all results; higher is better.

    If it is undefined for every large enough tail group, return that of all tail patients, or of all patients.
    """
    statistics = merge(
        {k: evaluation.value() for k, evaluation in own.items()}
        for result in results
        for own in result.outcomes[0].validation.values()
    )
    tail_groups = groups.tail(training_counts(results))
    tail = {k: s for k, s in statistics.items() if k in tail_groups}
    values = [v for s in tail.values() if s.count >= LEAST and (v := _score(s, metric)) is not None]
    if values:
        return fmean(values)
    together = [v for s in (total(tail), total(statistics)) if s is not None and (v := _score(s, metric)) is not None]
    return together[0] if together else -float("inf")


def judge_all(results: Sequence[CellResult], metric: str) -> float | None:
    """Return the metric on all validation patients of all results together; None if it is undefined."""
    whole = total(
        merge(
            {k: evaluation.value() for k, evaluation in own.items()}
            for result in results
            for own in result.outcomes[0].validation.values()
        )
    )
    value: float | None = None if whole is None else getattr(scores(whole), metric)
    return value


def training_counts(results: list[CellResult]) -> Counter[int]:
    """Return the training patients per group over all results."""
    return sum((Counter(result.counts) for result in results), Counter())


def _score(statistics: GroupStatistics, metric: str) -> float | None:
    value: float | None = getattr(scores(statistics), metric)
    return -value if value is not None and EVERY[metric].lower_is_better else value


def _seeds(request: Request) -> tuple[int, ...]:
    """Return the first seeds of the partition after those of the study."""
    number = folds(request.config)
    first = (max(request.seeds) // number + 1) * number
    return tuple(range(first, first + SEEDS))


def _cell(request: Request, arm: Arm, changes: Mapping[str, Scalar], seed: int) -> Cell:
    return Cell.of({**request.common, **arm.settings, **changes, "seed": seed}, request.clients)
