"""Makes tables of the quality of probabilities and decisions on test patients, before and after calibration.

Everything is computed from the merged statistics (`remind.metrics.calibration_fit`, `remind.metrics.reliability`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from remind import groups
from remind.metrics import reliability, thresholds
from remind.metrics.calibration_fit import calibrated
from remind.metrics.histograms import edges
from remind.metrics.intervals import mean_interval, wilson
from remind.metrics.scores import SCORES
from remind.metrics.statistics import MOST_LOG_LOSS, GroupStatistics, merge, total
from remind_server.outputs.records import RunResult

Row = dict[str, Any]
ALL = "all"
RAW, CALIBRATED = "raw", "calibrated"
CURVE = np.arange(1, 100) / 100  # threshold probabilities of a decision curve


def calibration_rows(result: RunResult) -> list[Row]:
    """Return log-loss, Brier score, calibration error and the scores of decisions per group; `all` first.

    There is one row per group and version (raw, calibrated). Sensitivity and specificity are those of the version's
    decisions: at the operating point if there is one, else of the likeliest class; empty unless there are two classes.
    """
    return [
        {"group": group, "model": version, "n": found.count} | _scores(found) | _decisions(found)
        for group, version, found in _every(result)
    ]


def everyone_rows(result: RunResult) -> list[Row]:
    """Return the rows of `calibration_rows` for all groups together."""
    return [row for row in calibration_rows(result) if row["group"] == ALL]


def reliability_rows(result: RunResult) -> list[Row]:
    """Return reliability curves: per range of probability the patients, those of the class, and the mean prediction.

    Ranges without patients are left out. With two classes the scored class is the second; else every class is scored
    against the rest.
    """
    rows = []
    for group, version, found in _every(result):
        for name, placed in zip(scored_names(result), found.scores.placed(), strict=True):
            curve = reliability.curve(placed)
            low_R = np.concatenate([[0.0], curve.edge_R[:-1]])
            rows += [
                {
                    "group": group,
                    "model": version,
                    "class": name,
                    "from": float(low_R[r]),
                    "to": float(curve.edge_R[r]),
                    "n": int(curve.n_R[r]),
                    "of_class": int(curve.positives_R[r]),
                    "predicted": float(curve.predicted_R[r]),
                    "observed": float(curve.positives_R[r] / curve.n_R[r]),
                }
                for r in np.flatnonzero(curve.n_R)
            ]
    return rows


def decision_rows(result: RunResult) -> list[Row]:
    """Return decision curves (Vickers and Elkin 2006): per threshold the net benefit of treating by the model, or all.

    Treating nobody has net benefit 0. Thresholds are moved to the nearest edge of the histogram's bins.
    """
    rows = []
    for group, version, found in _every(result):
        for name, (bins_K, counts_2K) in zip(scored_names(result), found.scores.placed(), strict=True):
            low_K = reliability.probability(edges(bins_K)[0])
            everybody_K = np.ones(len(bins_K), dtype=bool)
            rows += [
                {
                    "group": group,
                    "model": version,
                    "class": name,
                    "threshold": float(at),
                    "net_benefit": thresholds.net_benefit(counts_2K, low_K >= at, float(at)),
                    "treat_all": thresholds.net_benefit(counts_2K, everybody_K, float(at)),
                }
                for at in CURVE
            ]
    return rows


def model_content(result: RunResult) -> dict[str, Any]:
    """Return what the run store keeps of the model: its round, its calibration, and the rows of the three tables."""
    return {
        "round": result.round,
        "last_round": result.last,
        "selected": None if result.selected is None else dict(result.selected),
        "calibration": None if result.calibration is None else result.calibration.model_dump(mode="json"),
        "scores": calibration_rows(result),
        "reliability": reliability_rows(result),
        "decisions": decision_rows(result),
    }


def scored_names(result: RunResult) -> tuple[str, ...]:
    """Return the names of the classes that are scored against the rest."""
    classes = result.schema.classes
    return classes[1:] if len(classes) == 2 else classes


def _every(result: RunResult) -> Iterator[tuple[str, str, GroupStatistics]]:
    """Yield each group and `all`, raw and calibrated."""
    if not result.schema.predicts.by_class:
        return  # there are no probabilities of classes
    raw = merge(result.test.values())
    versions: dict[str, Mapping[int, GroupStatistics]] = {RAW: raw}
    if result.calibration is not None and len(result.schema.classes) == 2:
        versions[CALIBRATED] = calibrated(raw, result.calibration)
    elif result.calibrated:
        versions[CALIBRATED] = merge(result.calibrated.values())
    for version, found in versions.items():
        if (everyone := total(found)) is not None:
            yield ALL, version, everyone
    for group in raw:
        for version, found in versions.items():
            if group in found:
                yield groups.name(group, result.schema.names), version, found[group]


def _scores(found: GroupStatistics) -> Row:
    low, high = mean_interval(found.log_loss_sum, found.log_loss_squares, found.count, MOST_LOG_LOSS)
    row: Row = {"log_loss": found.log_loss, "log_loss_low": low, "log_loss_high": high}
    for name in ("brier", "ece"):
        score = SCORES[name]
        assert score.interval is not None
        interval = score.interval(found) or (None, None)
        row |= {name: score.value(found), f"{name}_low": interval[0], f"{name}_high": interval[1]}
    return row


def _decisions(found: GroupStatistics) -> Row:
    """Return sensitivity and specificity of the decisions with Wilson's intervals; None if undefined."""
    row: Row = {}
    two = len(found.confusion_CC) == 2
    for name, c in (("sensitivity", 1), ("specificity", 0)):
        n = int(found.confusion_CC[c].sum()) if two else 0
        share = float(found.confusion_CC[c, c] / n) if n else None
        low, high = (None, None) if share is None else wilson(share, n)
        row |= {f"{name}_n": n if two else None, name: share, f"{name}_low": low, f"{name}_high": high}
    return row
