"""Evaluates a model on a site's patients, per group."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remind.config import Config
from remind.data.batches.batch import Batch
from remind.fusion.base import FusionOutput
from remind.metrics.statistics import GroupStatistics, merge
from remind.metrics.tempering import TemperedSums, tempered
from remind.objectives.base import Labels, Objective
from remind.outcomes.base import Outcome, Seen
from remind.training.outputs import outputs
from remind.training.site_data import TokenSource
from remind.training.site_model import SiteModel


def most_loss(config: Config, outcome: Outcome) -> float:
    """Return the largest value that one patient's loss may contribute, in nats."""
    return config.federation.max_loss * outcome.chance_loss


def clipped_loss(
    model: SiteModel, objective: Objective, batch: Batch, output: FusionOutput, labels: Labels | None
) -> Tensor:
    """Return the objective's loss of each patient of a batch, (B,), as it counts in a measurement: see `evaluate`."""
    loss_B = objective.loss_of(model.outcome, output.logits_BC, batch.target, batch.group_B, labels or {})
    most = most_loss(objective.config, model.outcome)
    loss_B = loss_B.clamp(max=most)
    if objective.config.privacy.mode != "none":  # as for gradients: no patient makes the sum undefined
        loss_B = loss_B.nan_to_num(nan=most)
    return loss_B


@torch.no_grad()
def evaluate(
    model: SiteModel,
    source: TokenSource,
    index_N: NDArray[np.int64],
    objective: Objective,
    routing: bool,
    labels: Labels | None = None,
    temperature: float = 1.0,
) -> dict[int, GroupStatistics]:
    """Return the statistics per group of the patients at positions `index_N`, on the model as it is.

    Parameters
    ----------
    model, source
        The model, and where its tokens come from.
    objective
        Whose loss of a patient is measured; it counts at most ``federation.max-loss`` · ln C, so that no patient, and
        no site that makes one up, moves λ without bound.
    routing
        Whether Φ_k is in use (stage 2).
    labels
        Patients of each group by class, where the objective needs them.
    temperature
        Logits of classes are divided by it; not for the objective's own loss.
    """
    parts = []
    for batch, output in outputs(model, source, index_N, routing):
        loss_B = clipped_loss(model, objective, batch, output, labels)
        opened_B = torch.zeros_like(loss_B) if output.open_B is None else output.open_B
        seen = Seen(
            batch.group_B.cpu().numpy(),
            batch.label_B.cpu().numpy(),
            None if batch.target_BT is None else batch.target_BT.cpu().numpy(),
            loss_B.double().cpu().numpy(),
            opened_B.double().cpu().numpy(),
            None if output.use_BE is None else output.use_BE.double().cpu().numpy(),
        )
        parts.append(model.outcome.collect(seen, output.logits_BC.double().cpu().numpy(), temperature))
    return merge(parts)


@torch.no_grad()
def temper(model: SiteModel, source: TokenSource, index_N: NDArray[np.int64], routing: bool) -> dict[int, TemperedSums]:
    """Sum per group what a temperature is fitted on, of the patients at positions `index_N`."""
    model.eval()
    found: dict[int, TemperedSums] = {}
    chunks = [chunk for chunk in np.split(index_N, range(source.chunk, len(index_N), source.chunk)) if len(chunk)]
    for batch, tokens_BMD in source.batches(chunks):
        logits_BC = model.fuse(tokens_BMD, batch.presence_Bm, batch.group_B, routing).logits_BC
        log_p_BC = logits_BC.double().log_softmax(dim=-1).cpu().numpy()
        for group, sums in tempered(batch.group_B.cpu().numpy(), batch.label_B.cpu().numpy(), log_p_BC).items():
            found[group] = found[group] + sums if group in found else sums
    return found
