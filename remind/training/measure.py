"""The loss of each group: of all its patients, or estimated on a sample of them, with the variance of the estimate.

Encoding all patients of a site can take longer than the steps of a round. A sample without replacement gives an
unbiased estimate (Cochran, Sampling Techniques, 3rd ed. 1977, §2.5–2.6).
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from remind.metrics.statistics import GroupLoss, merge
from remind.objectives.base import Labels, Objective
from remind.training.evaluate import clipped_loss
from remind.training.outputs import outputs
from remind.training.site_data import TokenSource
from remind.training.site_model import SiteModel

Integers = NDArray[np.int64]


def drawn(index_N: Integers, group_N: Integers, most: int, seed: int) -> Integers:
    """Draw at most `most` patients of each group, without replacement; return their positions, in order.

    Parameters
    ----------
    index_N
        Positions of the patients in the cohort.
    group_N
        The group of each.
    """
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(index_N[group_N == k])[:most] for k in np.unique(group_N)]
    return np.sort(np.concatenate(parts)) if parts else index_N


def estimate_of(loss_m: NDArray[np.float64], count: int) -> GroupLoss:
    """Return the loss sum of `count` patients, estimated from a sample of them, with the variance of the estimate.

    n/m·Σ ℓ, and n²·s²/m·(1 − m/n) with the sample's variance s²; exact and 0 if all were measured.
    """
    measured = len(loss_m)
    if measured >= count:
        return GroupLoss(count, float(loss_m.sum()))
    spread = float(loss_m.var(ddof=1)) if measured > 1 else 0.0
    variance = count**2 * spread / measured * (1 - measured / count)
    return GroupLoss(count, float(loss_m.sum()) * count / measured, variance=variance)


@torch.no_grad()
def losses(
    model: SiteModel,
    source: TokenSource,
    index_N: Integers,
    objective: Objective,
    routing: bool,
    labels: Labels | None = None,
) -> dict[int, GroupLoss]:
    """Return the losses per group of the patients at positions `index_N`; parameters as in `evaluate`.

    The sums are those of `evaluate` to the bit. Nothing else is computed, such as scores, which for masks takes longer
    than the model.
    """
    parts = []
    for batch, output in outputs(model, source, index_N, routing):
        loss_B = clipped_loss(model, objective, batch, output, labels).double().cpu().numpy()
        group_B = batch.group_B.cpu().numpy()
        of_group = {k: loss_B[group_B == k] for k in np.unique(group_B).tolist()}
        parts.append({k: GroupLoss(len(own_N), float(own_N.sum())) for k, own_N in of_group.items()})
    return merge(parts)


@torch.no_grad()
def estimated(
    model: SiteModel,
    source: TokenSource,
    index_N: Integers,
    counts: Mapping[int, int],
    objective: Objective,
    routing: bool,
    labels: Labels | None = None,
) -> dict[int, GroupLoss]:
    """Estimate the losses per group from the patients at positions `index_N`; parameters as in `evaluate`.

    Parameters
    ----------
    counts
        Patients of each group from whom these were drawn.
    """
    groups, losses = [np.zeros(0, np.int64)], [np.zeros(0)]
    for batch, output in outputs(model, source, index_N, routing):
        losses.append(clipped_loss(model, objective, batch, output, labels).double().cpu().numpy())
        groups.append(batch.group_B.cpu().numpy())
    group_N, loss_N = np.concatenate(groups), np.concatenate(losses)
    return {k: estimate_of(loss_N[group_N == k], counts[k]) for k in np.unique(group_N).tolist()}
