"""Label leaks: features that alone almost determine the label.

Most often such a feature is the outcome or was recorded after it.

Letters: n patients in the sample, C classes, V features of one kind that a patient either has or lacks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lgamma, log

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.cohort import Cohort, concatenate
from remind.data.cohort.contents import Contents
from remind.data.cohort.kind import Floats, Members, kind_of
from remind.data.cohort.modality_schema import ModalitySchema
from remind.data.cohort.problems import listed

MOST_PATIENTS = 5000  # size of the sample, to limit time and memory
DECIDES = 0.99  # AUROC, or 1 − AUROC
FEWEST = 5  # patients of a class, and of the other classes, who have a value of the feature
BY_CHANCE = 0.01  # largest probability that any of the features orders the classes so well by chance
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Leak:
    """A feature in words, and how well it separates one class from the others."""

    words: str
    auroc: float


def leaks(cohorts: Sequence[Cohort]) -> list[str]:
    """Return one warning for each modality with features that alone almost determine the label, over all sites.

    A column, item or level counts by its value (an item of a series by its mean, its last value and how often it was
    measured). A code, item, column, modality or word of a note also counts by whether a patient has it. The measure is
    the AUROC of one class against the others, in a sample; of another outcome, of one of its strata, of each of its
    labels, and of each quarter of its numbers.
    """
    cohort = concatenate([cohort.take(_sample(cohort, len(cohorts))) for cohort in cohorts])
    labels = _labels(cohort)
    lines = []
    for modality in cohort.schema.modalities:
        found: dict[str, float] = {}
        candidates = list(_candidates(modality, cohort.modalities[modality.name]))
        for words, values_n in candidates:
            for label_n, classes in labels:
                for auroc in _aurocs(values_n, label_n, classes, len(candidates)):
                    if auroc >= DECIDES and auroc > found.get(words, 0.0):
                        found[words] = auroc
        if (members := kind_of(modality).members(modality, cohort.modalities[modality.name])) is not None:
            for label_n, classes in labels:
                for leak in _of_members(members, label_n, classes):
                    found[leak.words] = max(leak.auroc, found.get(leak.words, 0.0))
        if found:
            worst = sorted(found, key=lambda words: -found[words])
            named = listed((f"{words} (AUROC {found[words]:.3f})" for words in worst), 5)
            lines.append(
                f"{modality.name}: {named}: nearly decides the label alone; "
                "was it known before the outcome? if not, leave it out"
            )
    return lines


def _labels(cohort: Cohort) -> list[tuple[Labels, int]]:
    """Return what a feature may tell, as classes (n,), −1 = not known, and their number.

    Strata, and each target that strata do not tell: itself if it has two values, else its quarters.
    """
    found = [(cohort.label_N, len(cohort.schema.strata))]
    for target_n in [] if cohort.target_NT is None else cohort.target_NT.T:
        known_n = ~np.isnan(target_n)
        values = np.unique(target_n[known_n])
        edges = values[1:] if len(values) <= 2 else np.unique(np.quantile(target_n[known_n], [0.25, 0.5, 0.75]))
        label_n = np.where(known_n, np.searchsorted(edges, target_n, side="right"), -1)
        found.append((label_n.astype(np.int64), len(edges) + 1))
    return found


def _sample(cohort: Cohort, of: int) -> NDArray[np.int64]:
    """Return the patients of the sample: all, or this many of each class at random."""
    most = MOST_PATIENTS // of
    if len(cohort) <= most:
        return np.arange(len(cohort))
    order_N = np.random.default_rng(0).permutation(len(cohort))
    present = np.unique(cohort.label_N)
    share = max(most // len(present), 1)
    return np.sort(np.concatenate([order_N[cohort.label_N[order_N] == c][:share] for c in present]))


def _candidates(schema: ModalitySchema, data: Contents) -> Iterator[tuple[str, Floats]]:
    """Yield features in words with their values (n,), NaN = no value."""
    yield "whether a patient has it", data.present().astype(np.float64)
    yield from kind_of(schema).features(schema, data)


def _of_members(data: Members, label_n: Labels, classes: int) -> list[Leak]:
    """Check all at once, because there may be many: a patient has a code or lacks it."""
    label_O = np.repeat(label_n, np.diff(data.offsets_N1))
    code_O = (data.member_O * classes + label_O)[label_O >= 0]
    count_VC = np.bincount(code_O, minlength=len(data.names) * classes).reshape(-1, classes)
    n_C = np.bincount(label_n[label_n >= 0], minlength=classes)
    found: dict[int, float] = {}
    for c in range(classes):
        inside, outside = int(n_C[c]), int(n_C.sum() - n_C[c])
        if not _enough(inside, outside, int((count_VC.sum(axis=1) > 0).sum())):
            continue
        auroc_V = 0.5 * (1 + count_VC[:, c] / inside - (count_VC.sum(axis=1) - count_VC[:, c]) / outside)
        for v in np.flatnonzero((auroc_V >= DECIDES) | (auroc_V <= 1 - DECIDES)).tolist():
            found[v] = max(found.get(v, 0.0), float(auroc_V[v]), 1 - float(auroc_V[v]))
    return [Leak(f"{data.words} {data.names[v]!r}", auroc) for v, auroc in found.items()]


def _aurocs(values_n: Floats, label_n: Labels, classes: int, features: int) -> Iterator[float]:
    """Return how well values order each class against the others, 0.5 … 1; none if there are too few values."""
    there_n = ~np.isnan(values_n) & (label_n >= 0)
    label_n = label_n[there_n]
    count_C = np.bincount(label_n, minlength=classes)
    _, place_n, equal_V = np.unique(values_n[there_n], return_inverse=True, return_counts=True)
    rank_n = (np.cumsum(equal_V) - (equal_V - 1) / 2)[place_n]  # equal values get their mean rank
    for c in range(classes if classes > 2 else 1):
        inside, outside = int(count_C[c]), int(count_C.sum() - count_C[c])
        if _enough(inside, outside, features):
            above = (rank_n[label_n == c].sum() - inside * (inside + 1) / 2) / (inside * outside)
            yield float(max(above, 1 - above))


def _enough(inside: int, outside: int, features: int) -> bool:
    """Return whether chance is excluded with so many patients: only two of all their orders separate the classes."""
    if min(inside, outside) < FEWEST:
        return False
    orders = lgamma(inside + outside + 1) - lgamma(inside + 1) - lgamma(outside + 1)
    return log(2 * max(features, 1)) - orders < log(BY_CHANCE)
