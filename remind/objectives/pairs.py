"""Pairs of a step's patients, for objectives that mix them."""

from collections.abc import Sequence

import torch
from torch import Tensor


def partners(allowed_BB: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a random partner for each patient among those allowed, (B,); a patient without one is its own partner."""
    chosen = torch.arange(len(allowed_BB))
    for i, allowed_B in enumerate(allowed_BB.cpu()):
        others = allowed_B.nonzero().squeeze(1)
        if len(others):
            chosen[i] = others[torch.randint(len(others), (1,), generator=generator)]
    return chosen.to(allowed_BB.device)


def mixed(first: Tensor, second: Tensor, t_B: Tensor) -> Tensor:
    """Return t·first + (1 − t)·second for each patient."""
    t = t_B.view(-1, *([1] * (first.dim() - 1)))
    return t * first + (1 - t) * second


def common(presence_Bm: Tensor, other_Bm: Tensor) -> Tensor:
    """Return the modalities that both patients have; if there are none, those of the first, (B, m) bool."""
    both_Bm = presence_Bm & other_Bm
    return torch.where(both_Bm.any(dim=1, keepdim=True), both_Bm, presence_Bm)


def token_mask(presence_Bm: Tensor, counts: Sequence[int]) -> Tensor:
    """Return which tokens belong to these modalities, (B, M) bool, for `counts` tokens per modality."""
    return torch.repeat_interleave(presence_Bm, torch.tensor(list(counts), device=presence_Bm.device), dim=1)
