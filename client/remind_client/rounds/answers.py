"""What every answer of a site has in common: its parts, and the refusal to send what has diverged."""

from collections.abc import Iterable, Mapping

from remind.errors import UserError
from remind.federation.message_statistics import Evaluation
from remind.federation.message_types import MOST
from remind.metrics.statistics import GroupLoss, GroupStatistics


def evaluations(statistics: Mapping[int, GroupStatistics]) -> dict[int, Evaluation]:
    """Return statistics as they are sent.

    Raises
    ------
    UserError
        Training has diverged.
    """
    require_finite(statistics.values())
    return {k: Evaluation.of(s) for k, s in statistics.items()}


def require_finite(losses: Iterable[GroupLoss]) -> None:
    """Refuse sums of losses that no message can hold.

    Raises
    ------
    UserError
        Training has diverged.
    """
    for one in losses:
        if not 0 <= one.loss_sum <= MOST:
            raise UserError(
                f"training has diverged: a sum of losses is {one.loss_sum:g}; lower the learning rate (train.lr, --lr)"
            )
