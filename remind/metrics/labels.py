"""Scores of each label of an outcome with several labels, from the statistics that merge."""

from collections.abc import Sequence

from remind.metrics.formulas import auroc
from remind.metrics.intervals import auroc_interval
from remind.metrics.statistics import GroupStatistics
from remind.metrics.thresholds import average_precision, precision_interval

SCORED = ("auroc", "auprc")
Row = dict[str, str | int | float | None]


def label_rows(statistics: GroupStatistics, labels: Sequence[str]) -> list[Row]:
    """Return a row per label: patients of whom it is known, those of whom it holds, AUROC and AUPRC with intervals.

    A score is None where the label holds of nobody, or of everybody, among them.
    """
    rows: list[Row] = []
    for position, label in enumerate(labels):
        own = statistics.scores.only(position)
        n, positives = own.totals()
        row: Row = {"label": label, "n": n, "positives": positives}
        for name, value, interval in (
            ("auroc", auroc, auroc_interval),
            ("auprc", average_precision, precision_interval),
        ):
            found = next((value(histogram_2K) for histogram_2K in own.each()), None) if 0 < positives < n else None
            ends = interval(list(own.each())) if found is not None else None
            low, high = ends or (None, None)
            row |= {name: None if found is None else found[0], f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return rows
