"""Updates in 8 bits with error feedback: what rounding leaves out of an answer is added to the next one.

Each run of `RUN` values has a scale of its own, its largest magnitude over 127; a value is rounded to the nearest
multiple. The site keeps the difference (Seide et al., 1-bit stochastic gradient descent, Interspeech 2014; Karimireddy
et al., Error feedback fixes SignSGD, ICML 2019), so that over the rounds
Σ sent = Σ updates − the last difference, and the error of the sum does not grow.
"""

from collections.abc import Collection, Mapping
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RUN = 256  # values per scale
LEVELS = 127
RESIDUAL = "residual/"  # begins the names of what a site keeps of rounding

Buffer = NDArray[np.uint8]


def nbytes_of(numel: int) -> int:
    """Return the bytes of a tensor of this many values: one each, and four per scale."""
    return numel + 4 * ceil(numel / RUN)


def quantise(tensor: Tensor) -> Buffer:
    """Return the scales (float32), then the multiples (int8).

    Raises
    ------
    ValueError
        A value is not finite: its run would have no scale.
    """
    value_N = tensor.detach().to("cpu", torch.float32).reshape(-1)
    if not bool(torch.isfinite(value_N).all()):
        raise ValueError("an update that is not finite cannot be sent in 8 bits")
    runs = ceil(value_N.numel() / RUN)
    value_RV = torch.nn.functional.pad(value_N, (0, runs * RUN - value_N.numel())).view(runs, RUN)
    scale_R = value_RV.abs().amax(dim=1) / LEVELS
    safe_R1 = torch.where(scale_R > 0, scale_R, 1.0).unsqueeze(1)
    multiple_RV = (value_RV / safe_R1).round().clamp(-LEVELS, LEVELS).to(torch.int8)
    multiple_N = multiple_RV.view(-1)[: value_N.numel()]
    return np.concatenate([scale_R.numpy().view(np.uint8), multiple_N.numpy().view(np.uint8)])


def dequantise(raw: Buffer, numel: int) -> Tensor:
    """Return the values (numel,), float32: the same at the site and at the coordinator."""
    runs = ceil(numel / RUN)
    scale_R = torch.from_numpy(raw[: 4 * runs].copy()).view(torch.float32)
    multiple_N = torch.from_numpy(raw[4 * runs :].copy()).view(torch.int8).to(torch.float32)
    return multiple_N * scale_R.repeat_interleave(RUN)[:numel]


def with_feedback(
    updates: Mapping[str, Tensor], kept: Mapping[str, Tensor], silent: Collection[str] = ()
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return updates with what was left of earlier ones, as they will be read, and what is left now.

    Parameters
    ----------
    updates
        The update of each tensor, by name.
    kept
        What the site keeps, where earlier differences are.
    silent
        Names of tensors to which nothing of earlier rounds may be added; their differences wait.
    """
    sent, left = {}, {}
    for name, update in updates.items():
        before = kept.get(RESIDUAL + name)
        if name in silent or before is None or before.shape != update.shape:
            whole = update
        else:
            whole = update + before.to(update)
        sent[name] = dequantise(quantise(whole), whole.numel()).view(whole.shape).to(whole)
        if name not in silent:
            left[RESIDUAL + name] = (whole - sent[name]).detach().cpu()
    return sent, left
