"""What stands around every fusion model: a shared map on top of encoders, and what a site knows alone.

Shapes: B patients, m modalities, l_i tokens of modality i, D width, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Projection(nn.Module):
    """Z_i ← Z_i + Z_i W_i + w_i of each modality, 0 at first: encoders stay, what stands on them is shared."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.weight_mDD = nn.Parameter(torch.zeros(modalities, width, width))
        self.bias_mD = nn.Parameter(torch.zeros(modalities, width))

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Tokens (B, l_i, D) of each modality → the same shapes."""
        pairs = zip(tokens, self.weight_mDD, self.bias_mD, strict=True)
        return [z_BlD + z_BlD @ weight_DD + bias_D for z_BlD, weight_DD, bias_D in pairs]


class AloneScale(nn.Module):
    """How far the common model trusts what each site knows alone: a factor of scores and one of shares, 1 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.shares = nn.Parameter(torch.ones(()))

    def forward(self, token_BD: Tensor, presence_Bm: Tensor, classes: int) -> Tensor:
        """Return what is added to the logits, (B, C)."""
        shares_BC = token_BD[:, classes : 2 * classes]
        return self.scale * known_alone(token_BD, presence_Bm, classes) + self.shares * shares_BC


def known_alone(token_BD: Tensor, presence_Bm: Tensor, classes: int) -> Tensor:
    """Read the token: the scores (B, C), or 0 where they were computed from other modalities than the model sees.

    So a modality that is hidden from the model, in training or to measure its value, is hidden from the scores too.
    """
    modalities = presence_Bm.shape[1]
    same_B = (token_BD[:, 2 * classes : 2 * classes + modalities] == presence_Bm.to(token_BD.dtype)).all(dim=1)
    return token_BD[:, :classes] * same_B.unsqueeze(1)
