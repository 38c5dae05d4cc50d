"""Statistics per group of outcomes without classes.

Shapes: as in `remind.outcomes.base`; S sums of an outcome, F cells of histograms that are in use, H cells per patient.
"""

import numpy as np

from remind.metrics.histograms import ScoreHistograms
from remind.metrics.statistics import MOST_LOG_LOSS, GroupStatistics
from remind.outcomes.base import Floats, Integers, Outcome, Seen


def gather(
    outcome: Outcome,
    seen: Seen,
    log_loss_B: Floats,
    sums_BS: Floats,
    code_BH: Integers | None = None,
    brier_B: Floats | None = None,
) -> dict[int, GroupStatistics]:
    """Return statistics per group of an outcome without classes, from numbers of each patient.

    Parameters
    ----------
    log_loss_B, brier_B, sums_BS
        What is added up.
    code_BH
        Cells of the score histograms that a patient falls into (`ScoreHistograms.code_F`), −1: none.
    """
    log_loss_B = np.clip(log_loss_B, 0.0, MOST_LOG_LOSS)
    brier_B = np.zeros(len(log_loss_B)) if brier_B is None else brier_B
    use_BE = np.zeros((len(log_loss_B), 0)) if seen.use_BE is None else seen.use_BE
    code_BH = np.full((len(log_loss_B), 0), -1) if code_BH is None else code_BH
    found = {}
    for group in np.unique(seen.group_B).tolist():
        mine = seen.group_B == group
        code_N = code_BH[mine].ravel()
        code_F, count_F = np.unique(code_N[code_N >= 0], return_counts=True)
        found[group] = GroupStatistics(
            count=int(mine.sum()),
            loss_sum=float(seen.loss_B[mine].sum()),
            log_loss_sum=float(log_loss_B[mine].sum()),
            log_loss_squares=float((log_loss_B[mine] ** 2).sum()),
            brier_sum=float(brier_B[mine].sum()),
            brier_squares=float((brier_B[mine] ** 2).sum()),
            open_sum=float(seen.open_B[mine].sum()),
            confusion_CC=np.zeros((0, 0), dtype=np.int64),
            scores=ScoreHistograms(code_F.astype(np.int64), count_F.astype(np.int64)),
            use_sum_E=use_BE[mine].sum(axis=0),
            outcome=outcome.kind,
            sums_S=sums_BS[mine].sum(axis=0),
        )
    return found
