"""Group statistics as plain numbers for JSON: everything that a sum of groups needs to be scored again."""

from typing import Any

import numpy as np

from remind.metrics.histograms import GRID, ScoreHistograms
from remind.metrics.statistics import GroupStatistics

Packed = dict[str, Any]
_SUMS = ("count", "loss_sum", "log_loss_sum", "log_loss_squares", "brier_sum", "brier_squares", "open_sum")


def pack(statistics: GroupStatistics) -> Packed:
    """Return the statistics without the weights of experts; `unpack` is the inverse."""
    return (
        {name: getattr(statistics, name) for name in _SUMS}
        | {
            "confusion": statistics.confusion_CC.tolist(),
            "grid": GRID,
            "codes": statistics.scores.code_F.tolist(),
            "counts": statistics.scores.count_F.tolist(),
        }
        | (
            {}
            if statistics.outcome == "classes"
            else {"outcome": statistics.outcome, "sums": statistics.sums_S.tolist()}
        )
    )


def unpack(packed: Packed) -> GroupStatistics | None:
    """Return the statistics; None if their histograms have other bins, so that they cannot be added to ours."""
    if packed["grid"] != GRID:
        return None
    confusion_CC = np.array(packed["confusion"], dtype=np.int64)
    codes, counts = (np.array(packed[name], dtype=np.int64) for name in ("codes", "counts"))
    return GroupStatistics(
        **{name: packed[name] for name in _SUMS},
        confusion_CC=confusion_CC.reshape(len(confusion_CC), len(confusion_CC)),
        scores=ScoreHistograms(codes, counts),
        outcome=packed.get("outcome", "classes"),
        sums_S=np.array(packed.get("sums", ()), dtype=np.float64),
    )
