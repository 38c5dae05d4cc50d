"""A model's outputs for a site's patients, batch by batch: what evaluation measures and what prediction reports."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from remind.data.batches.batch import Batch
from remind.fusion.base import FusionOutput
from remind.training.site_data import TokenSource
from remind.training.site_model import SiteModel


@contextmanager
def without_gradient(model: nn.Module) -> Iterator[None]:
    """Let no parameter require a gradient within the block.

    torch chooses between kernels by this flag, inside `torch.no_grad` too, and kernels differ in the last digits. An
    examination and a prediction must agree to the last one.
    """
    required = [p for p in model.parameters() if p.requires_grad]
    for parameter in required:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in required:
            parameter.requires_grad_(True)


def outputs(
    model: SiteModel, source: TokenSource, index_N: NDArray[np.int64], routing: bool
) -> Iterator[tuple[Batch, FusionOutput]]:
    """Yield batches of the patients at positions `index_N`, in that order, with the model's output for them.

    Floating-point sums depend on the size of a batch, so equal patients in equal order give equal bits.

    Parameters
    ----------
    model, source
        The model, which is set to evaluate, and where its tokens come from.
    index_N
        Positions in the cohort.
    routing
        Whether Φ_k is in use (stage 2).
    """
    model.eval()
    chunks = [chunk for chunk in np.split(index_N, range(source.chunk, len(index_N), source.chunk)) if len(chunk)]
    batches = source.batches(chunks)
    while True:
        with torch.no_grad():  # not around `yield`: the caller's own mode must not change between two batches
            if (found := next(batches, None)) is None:
                return
            batch, tokens_BMD = found
            output = model.fuse(tokens_BMD, batch.presence_Bm, batch.group_B, routing)
        yield batch, output
