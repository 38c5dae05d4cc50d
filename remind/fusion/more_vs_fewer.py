"""More-vs-Fewer ranking (Li et al., ICCV 2025, arXiv 2507.19264): more modalities must not mean a higher loss.

Any model can be trained with this loss: on all modalities of a patient, X⁺, and on a strict subset, X⁻. SimMLM includes
it.

Shapes: B patients, m modalities.
"""

import torch
from torch import Tensor
from torch.nn import functional


def more_vs_fewer(loss_more_B: Tensor, loss_fewer_B: Tensor, weight: float = 0.1) -> Tensor:
    """Return ℓ(X⁺) + ℓ(X⁻) + weight·relu(ℓ(X⁺) − ℓ(X⁻)) of each patient, (B,).

    A patient with one modality has no pair. Pass ℓ(X⁻) := ℓ(X⁺) for these patients (`draw_fewer` leaves their rows
    unchanged): they then have the same weight as others, and their ranking term is 0.
    """
    return loss_more_B + loss_fewer_B + weight * functional.relu(loss_more_B - loss_fewer_B)


def draw_fewer(presence_Bm: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw a strict, nonempty subset of each patient's modalities, all equally likely, (B, m) bool.

    The row of a patient with one modality is returned unchanged, because it has no such subset. Random numbers come
    from `generator`, on its own device, or from torch's global generator.
    """
    place = presence_Bm.device if generator is None else generator.device
    fewer_Bm = presence_Bm
    todo_B = presence_Bm.sum(dim=1) > 1
    while todo_B.any():
        coin_Bm = torch.rand(presence_Bm.shape, device=place, generator=generator).to(presence_Bm.device) < 0.5
        fewer_Bm = torch.where(todo_B.unsqueeze(1), presence_Bm & coin_Bm, fewer_Bm)
        todo_B = todo_B & (~fewer_Bm.any(dim=1) | (fewer_Bm == presence_Bm).all(dim=1))
    return fewer_Bm
