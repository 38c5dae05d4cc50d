"""Modality dropout: training hides a patient's modalities at random, but never all of them.

Shapes: B patients, m modalities.
"""

import torch
from torch import Tensor


def drop_modalities(presence_Bm: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Drop each present modality with probability `rate`, independently; returns the presence, (B, m) bool.

    A patient who would lose all modalities keeps one, each with equal chance. Random numbers come from `generator`, on
    its own device, or from torch's global generator, as for dropout.
    """
    place = presence_Bm.device if generator is None else generator.device
    luck_Bm = torch.rand(presence_Bm.shape, device=place, generator=generator).to(presence_Bm.device)
    luck_Bm = luck_Bm.masked_fill(~presence_Bm, -1.0)
    luckiest_Bm = torch.zeros_like(presence_Bm).scatter(1, luck_Bm.argmax(dim=1, keepdim=True), True)
    return presence_Bm & ((luck_Bm >= rate) | luckiest_Bm)
