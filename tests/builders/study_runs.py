"""Runs of a artificial study, from single patients: what results.json is made of, without training."""

from dataclasses import dataclass, replace

import numpy as np

from remind.federation.message_statistics import Evaluation
from remind.metrics.statistics import GroupStatistics, collect
from remind_studies.cells.cell import Cell, CellResult, Outcome, RoundTrace
from remind_studies.results.contenders import Run

MODALITIES = ("picture", "table", "note")


@dataclass(frozen=True)
class Patients:
    """N patients: where they are, what they have, and how they fare with a model."""

    site_N: np.ndarray
    group_N: np.ndarray
    label_N: np.ndarray
    log_p_NC: np.ndarray

    @property
    def loss_N(self) -> np.ndarray:
        return -self.log_p_NC[np.arange(len(self.label_N)), self.label_N]

    def at(self, chosen) -> "Patients":
        return Patients(self.site_N[chosen], self.group_N[chosen], self.label_N[chosen], self.log_p_NC[chosen])


def draw(seed: int, number: int, sites: int = 3, classes: int = 2, groups=(3, 1, 7, 4), skill: float = 1.0) -> Patients:
    """Patients of a cohort; `skill` moves the scores, nothing else."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.6, 0.25, 0.1, 0.05])[: len(groups)]
    label_N = rng.integers(classes, size=number)
    logits_NC = rng.normal(size=(number, classes)) + skill * np.eye(classes)[label_N]
    return Patients(
        site_N=np.array([f"site {s}" for s in rng.integers(sites, size=number)]),
        group_N=rng.choice(groups, p=shares / shares.sum(), size=number),
        label_N=label_N,
        log_p_NC=logits_NC - np.logaddexp.reduce(logits_NC, axis=1, keepdims=True),
    )


def statistics(patients: Patients) -> dict[int, GroupStatistics]:
    ones = np.ones(len(patients.label_N))
    return collect(patients.group_N, patients.label_N, patients.loss_N, patients.log_p_NC, ones)


def by_site(patients: Patients) -> dict[str, dict[int, GroupStatistics]]:
    return {s: statistics(patients.at(patients.site_N == s)) for s in np.unique(patients.site_N).tolist()}


def outcome(patients: Patients, name: str = "") -> Outcome:
    test = {site: {k: Evaluation.of(s) for k, s in own.items()} for site, own in by_site(patients).items()}
    return Outcome(name=name, test=test, validation={})


def counts(patients: Patients) -> dict[int, int]:
    return {int(k): int(n) for k, n in zip(*np.unique(patients.group_N, return_counts=True), strict=True)}


def fold_of(patients: Patients, partition: int, folds: int) -> np.ndarray:
    return np.random.default_rng([1, partition]).permutation(len(patients.label_N)) % folds


def result(train: Patients, outcomes: list[Outcome], seed: int = 0, **fields) -> CellResult:
    empty = {
        "cell": Cell(settings={"seed": seed}),
        "modalities": MODALITIES,
        "classes": ("well", "sick"),
        "counts": counts(train),
        "site_counts": {s: counts(train.at(train.site_N == s)) for s in np.unique(train.site_N).tolist()},
        "outcomes": tuple(outcomes),
        "seconds": 1.0,
    }
    return CellResult(**{**empty, **fields})


def trace(number: int, seed: int) -> RoundTrace:
    return RoundTrace(
        round=number,
        stage=1 if number < 2 else 2,
        weights={3: 0.5 + 0.1 * seed, 1: 0.5 - 0.1 * seed},
        risks={3: 0.7},
        gate_open={3: 0.25 * seed} if number else {},
        validation_log_loss=0.7 - 0.1 * number if number else None,
        bytes_down=1,
        bytes_up=1,
    )


def study_runs(cohort: Patients, skills: dict[str, float], seeds: range, folds: int = 5, panel: str = "compare"):
    """A run of each arm and seed: the cohort's patients in folds, scores drawn separately by arm and seed."""
    for arm, skill in skills.items():
        for seed in seeds:
            test_N = fold_of(cohort, seed // folds, folds) == seed % folds
            rng = np.random.default_rng([seed, len(arm)])
            logits_NC = (
                rng.normal(size=cohort.log_p_NC.shape) + skill * np.eye(cohort.log_p_NC.shape[1])[cohort.label_N]
            )
            log_p_NC = logits_NC - np.logaddexp.reduce(logits_NC, axis=1, keepdims=True)
            scored = replace(cohort, log_p_NC=log_p_NC)
            rounds = tuple(trace(number, seed) for number in range(3))
            yield Run(panel, arm, seed, result(cohort.at(~test_N), [outcome(scored.at(test_N))], seed, rounds=rounds))
