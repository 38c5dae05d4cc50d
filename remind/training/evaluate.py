"""Measuring a model on a site's patients, per group."""

import numpy as np
import torch
from numpy.typing import NDArray

from remind.metrics.statistics import GroupStatistics, collect, merge
from remind.objectives.focal import focal_loss
from remind.training.site_data import TokenSource
from remind.training.site_model import SiteModel


@torch.no_grad()
def evaluate(
    model: SiteModel, source: TokenSource, index_N: NDArray[np.int64], focal_gamma: float, routing: bool
) -> dict[int, GroupStatistics]:
    """Statistics per group of the patients at positions `index_N`, on the model as it is.

    Parameters
    ----------
    model, source
        The model, and where its tokens come from.
    focal_gamma
        Of the loss.
    routing
        Whether Φ_k is in use (stage 2).
    """
    model.eval()
    parts = []
    chunks = [chunk for chunk in np.split(index_N, range(source.chunk, len(index_N), source.chunk)) if len(chunk)]
    for batch, tokens_BMD in source.batches(chunks):
        output = model.fuse(tokens_BMD, batch, routing)
        loss_B = focal_loss(output.logits_BC, batch.label_B, focal_gamma)
        log_p_BC = output.logits_BC.double().log_softmax(dim=-1)
        parts.append(
            collect(
                batch.group_B.cpu().numpy(),
                batch.label_B.cpu().numpy(),
                loss_B.double().cpu().numpy(),
                log_p_BC.cpu().numpy(),
                output.open_B.double().cpu().numpy(),
            )
        )
    return merge(parts)
