"""The measures for the comparison of models: those of the library, and which of them only describe the others."""

from remind.metrics.aggregates import (
    ABSENT,
    AMONG,
    AVAILABLE,
    BESIDES,
    USUAL,
    ByMetric,
    Examined,
    Scope,
    by_metric,
    examine,
    measure,
)
from remind.metrics.scores import EVERY, SCORES, scores_of
from remind.outcomes.base import Outcome

METRICS = tuple(SCORES)  # of classes
LOWER_IS_BETTER = frozenset(name for name, score in EVERY.items() if score.lower_is_better)
COMPARABLE = frozenset(name for name, score in EVERY.items() if score.comparable)
DESCRIPTIVE = frozenset({"head_patients", "mean_groups", "mean_sites"})  # follow from the others


def comparable(outcome: Outcome) -> list[str]:
    """Return the scores of an outcome that can compare models."""
    return [name for name in scores_of(outcome.kind, outcome.parts) if name in COMPARABLE]


__all__ = [
    "ABSENT",
    "AMONG",
    "AVAILABLE",
    "BESIDES",
    "COMPARABLE",
    "DESCRIPTIVE",
    "LOWER_IS_BETTER",
    "METRICS",
    "USUAL",
    "ByMetric",
    "Examined",
    "Scope",
    "by_metric",
    "comparable",
    "examine",
    "measure",
]
