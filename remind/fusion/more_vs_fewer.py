"""More-vs-Fewer ranking (Li et al., ICCV 2025, arXiv 2507.19264): more modalities must not mean a higher loss.

Any model can be trained so: on what a patient has, X⁺, and on a strict part of it, X⁻. SimMLM brings it along.

Shapes: B patients, m modalities.
"""

import torch
from torch import Tensor
from torch.nn import functional


def more_vs_fewer(loss_more_B: Tensor, loss_fewer_B: Tensor, weight: float = 0.1) -> Tensor:
    """ℓ(X⁺) + ℓ(X⁻) + weight·relu(ℓ(X⁺) − ℓ(X⁻)) of each patient, (B,).

    A patient with one modality has no pair. Give ℓ(X⁻) := ℓ(X⁺) for them (`draw_fewer` says who): they then count as
    much as others do, and nothing is ranked.
    """
    return loss_more_B + loss_fewer_B + weight * functional.relu(loss_more_B - loss_fewer_B)


def draw_fewer(presence_Bm: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A strict, nonempty part of each patient's modalities, all equally likely, (B, m) bool.

    The row of a patient with one modality comes back as it is: it has no such part. Drawn from `generator`, wherever it
    lies, or from torch's own randomness.
    """
    place = presence_Bm.device if generator is None else generator.device
    fewer_Bm = presence_Bm
    todo_B = presence_Bm.sum(dim=1) > 1
    while todo_B.any():
        coin_Bm = torch.rand(presence_Bm.shape, device=place, generator=generator).to(presence_Bm.device) < 0.5
        fewer_Bm = torch.where(todo_B.unsqueeze(1), presence_Bm & coin_Bm, fewer_Bm)
        todo_B = todo_B & (~fewer_Bm.any(dim=1) | (fewer_Bm == presence_Bm).all(dim=1))
    return fewer_Bm
