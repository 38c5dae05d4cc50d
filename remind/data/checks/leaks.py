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
from remind.data.cohort.contents import Codes, Contents, Series, Table
from remind.data.cohort.problems import listed
from remind.data.cohort.schema import ModalitySchema, SeriesSchema, TableSchema

MOST_PATIENTS = 5000  # size of the sample, to limit time and memory
MOST_ITEMS = 2000  # of a series: the most frequent ones
DECIDES = 0.99  # AUROC, or 1 − AUROC
FEWEST = 5  # patients of a class, and of the other classes, who have a value of the feature
BY_CHANCE = 0.01  # largest probability that any of the features orders the classes so well by chance
FEW_VALUES = 10  # up to this many different numbers, a column is also checked value by value
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Leak:
    """A feature in words, and how well it separates one class from the others."""

    words: str
    auroc: float


def leaks(cohorts: Sequence[Cohort]) -> list[str]:
    """Return one warning for each modality with features that alone almost determine the label, over all sites.

    A column, item or level counts by its value (an item of a series by its mean and its last value). A code, item,
    column
    or modality also counts by whether a patient has it. The measure is the AUROC of one class against the others, in a
    sample.
    """
    cohort = concatenate([cohort.take(_sample(cohort, len(cohorts))) for cohort in cohorts])
    classes = len(cohort.schema.classes)
    lines = []
    for modality in cohort.schema.modalities:
        found: dict[str, float] = {}
        candidates = list(_candidates(modality, cohort.modalities[modality.name]))
        for words, values_n in candidates:
            for auroc in _aurocs(values_n, cohort.label_N, classes, len(candidates)):
                if auroc >= DECIDES and auroc > found.get(words, 0.0):
                    found[words] = auroc
        for leak in _of_codes(cohort.modalities[modality.name], cohort.label_N, classes):
            found[leak.words] = leak.auroc
        if found:
            worst = sorted(found, key=lambda words: -found[words])
            named = listed((f"{words} (AUROC {found[words]:.3f})" for words in worst), 5)
            lines.append(
                f"{modality.name}: {named}: nearly decides the label alone; "
                "was it known before the outcome? if not, leave it out"
            )
    return lines


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
    present_n = data.present()
    yield "whether a patient has it", present_n.astype(np.float64)
    if isinstance(data, Table) and isinstance(schema, TableSchema):
        for name, values_n in zip(schema.columns, data.values_NF.T.astype(np.float64), strict=True):
            yield from _of_column(name, values_n, schema.categories.get(name), present_n)
    elif isinstance(data, Series) and isinstance(schema, SeriesSchema):
        yield from _of_items(schema, data)


def _of_column(
    name: str, values_n: Floats, levels: tuple[str, ...] | None, present_n: NDArray[np.bool_]
) -> Iterator[tuple[str, Floats]]:
    there_n = ~np.isnan(values_n)
    if levels is None:
        yield repr(name), values_n
    if (there_n != present_n).any():
        yield f"whether {name!r} is known", there_n.astype(np.float64)
    if levels is not None or len(np.unique(values_n[there_n])) <= FEW_VALUES:
        for value in np.unique(values_n[there_n]):
            yield repr(name), np.where(there_n, values_n == value, np.nan)


def _of_items(schema: SeriesSchema, data: Series) -> Iterator[tuple[str, Floats]]:
    n = len(data.offsets_N1) - 1
    patient_O = np.repeat(np.arange(n), np.diff(data.offsets_N1))
    frequent = np.argsort(-np.bincount(data.item_O, minlength=len(schema.items)), kind="stable")[:MOST_ITEMS]
    order_O = np.argsort(data.item_O, kind="stable")  # by item; the sort is stable, so patients and times stay in order
    starts = np.searchsorted(data.item_O[order_O], np.arange(len(schema.items) + 1))
    for item in frequent.tolist():
        rows = order_O[starts[item] : starts[item + 1]]
        if not len(rows):
            continue
        count_n = np.bincount(patient_O[rows], minlength=n)
        last_n = np.full(n, np.nan)
        last_n[patient_O[rows]] = data.value_O[rows]
        with np.errstate(invalid="ignore"):
            mean_n = np.bincount(patient_O[rows], data.value_O[rows].astype(np.float64), n) / count_n
        name = repr(schema.items[item])
        yield name, mean_n
        yield name, last_n
        yield f"whether {name} was measured", (count_n > 0).astype(np.float64)


def _of_codes(data: Contents, label_n: Labels, classes: int) -> list[Leak]:
    """Check all codes at once, because there may be many: a patient has a code or lacks it."""
    if not isinstance(data, Codes):
        return []
    label_O = np.repeat(label_n, np.diff(data.offsets_N1))
    count_VC = np.bincount(data.code_O * classes + label_O, minlength=len(data.names) * classes)
    count_VC = count_VC.reshape(-1, classes)
    n_C = np.bincount(label_n, minlength=classes)
    found: dict[int, float] = {}
    for c in range(classes):
        inside, outside = int(n_C[c]), int(n_C.sum() - n_C[c])
        if not _enough(inside, outside, int((count_VC.sum(axis=1) > 0).sum())):
            continue
        auroc_V = 0.5 * (1 + count_VC[:, c] / inside - (count_VC.sum(axis=1) - count_VC[:, c]) / outside)
        for v in np.flatnonzero((auroc_V >= DECIDES) | (auroc_V <= 1 - DECIDES)).tolist():
            found[v] = max(found.get(v, 0.0), float(auroc_V[v]), 1 - float(auroc_V[v]))
    return [Leak(f"whether a patient has {data.names[v]!r}", auroc) for v, auroc in found.items()]


def _aurocs(values_n: Floats, label_n: Labels, classes: int, features: int) -> Iterator[float]:
    """Return how well values order each class against the others, 0.5 … 1; none if there are too few values."""
    there_n = ~np.isnan(values_n)
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
