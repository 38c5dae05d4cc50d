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
from remind.metrics.scores import SCORES

METRICS = tuple(SCORES)
LOWER_IS_BETTER = frozenset(name for name, score in SCORES.items() if score.lower_is_better)
COMPARABLE = frozenset(name for name, score in SCORES.items() if score.comparable)
DESCRIPTIVE = frozenset({"head_patients", "mean_groups", "mean_sites"})  # follow from the others

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
    "examine",
    "measure",
]
