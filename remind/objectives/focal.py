"""Focal loss (Lin et al. 2017; algorithm §2)."""

from torch import Tensor
from torch.nn import functional


def focal_loss(logits_BC: Tensor, label_B: Tensor, gamma: float = 2.0) -> Tensor:
    """Return −(1 − p)^γ · ln p of the true class, (B,); no α, exact gradient (the weight is not detached).

    γ = 0 is cross-entropy.
    """
    log_p_B = functional.log_softmax(logits_BC, dim=-1).gather(1, label_B.unsqueeze(1)).squeeze(1)
    if gamma == 0:
        return -log_p_B
    # 1 − p from expm1 keeps its precision where p is near 1; the clamp keeps the power's gradient finite at p = 1.
    rest_B = (-log_p_B.expm1()).clamp_min(1e-12)
    return -(rest_B**gamma) * log_p_B
