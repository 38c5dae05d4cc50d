"""Modality dropout: in training a patient loses modalities at random, never all of them.

Shapes: B patients, m modalities.
"""

import torch
from torch import Tensor


def drop_modalities(presence_Bm: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Presence after dropping each present modality with probability `rate`, independently, (B, m) bool.

    Whoever would lose all keeps one of theirs, each with equal chance. Drawn from `generator`, wherever it lies, or
    from torch's own randomness as dropout is.
    """
    place = presence_Bm.device if generator is None else generator.device
    luck_Bm = torch.rand(presence_Bm.shape, device=place, generator=generator).to(presence_Bm.device)
    luck_Bm = luck_Bm.masked_fill(~presence_Bm, -1.0)
    luckiest_Bm = torch.zeros_like(presence_Bm).scatter(1, luck_Bm.argmax(dim=1, keepdim=True), True)
    return presence_Bm & ((luck_Bm >= rate) | luckiest_Bm)
