"""Optional parts around any fusion model: a projection of tokens, a site's own scores and baseline, a linear model.

Shapes: B patients, m modalities, l_i tokens of modality i, R rows of numbers, D width, X = R·D, C classes.
"""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor, nn

from remind.privacy.tape import current_tape, per_patient

BLEND = "fusion.alone.blend"  # its name in `SiteModel`
GAIN = 3.0  # scales what a linear term reads, so that it learns within a run at a transformer's learning rate


class Projection(nn.Module):
    """Z_i ← Z_i + Z_i W_i + w_i for each modality, 0 at first. It is shared, while encoders stay at their sites."""

    taped = frozenset({"weight_mDD", "bias_mD"})

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.weight_mDD = nn.Parameter(torch.zeros(modalities, width, width))
        self.bias_mD = nn.Parameter(torch.zeros(modalities, width))

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Map the tokens (B, l_i, D) of each modality to the same shapes."""
        if current_tape() is not None:
            weight_BmDD = per_patient(self.weight_mDD, tokens[0].shape[0])
            bias_Bm1D = per_patient(self.bias_mD, tokens[0].shape[0]).unsqueeze(2)
            return [z_BlD + z_BlD @ weight_BmDD[:, i] + bias_Bm1D[:, i] for i, z_BlD in enumerate(tokens)]
        pairs = zip(tokens, self.weight_mDD, self.bias_mD, strict=True)
        return [z_BlD + z_BlD @ weight_DD + bias_D for z_BlD, weight_DD, bias_D in pairs]


class AloneScale(nn.Module):
    """Add a site's own scores and class shares to the common model's logits, each with a learned factor, 1 at first.

    Parameters
    ----------
    blend
        b = 0: the site's scores s are added to the common model's logits c, so the model learns what they lack. b > 0:
        the common model trains without the scores and predicts (1 − b)·c + b·s. Two models that are trained on partly
        the same patients use the same evidence twice: their sum is overconfident, their mean is not. No training step
        changes b, because training patients do not show how well the model generalises. The coordinator may choose b
        at the end of a run (``evaluation.choose-blend``).
    """

    def __init__(self, blend: float = 0.0) -> None:
        super().__init__()
        self.scale = None if blend else nn.Parameter(torch.ones(()))
        self.shares = nn.Parameter(torch.ones(()))
        self.blend = nn.Parameter(torch.tensor(blend), requires_grad=False) if blend else None

    def forward(self, logits_BC: Tensor, known_BX: Tensor, presence_Bm: Tensor) -> Tensor:
        """Return the logits with the site's scores and class shares, (B, C).

        A patient may have no score, because the site has too few patients to fit a model or because a modality is
        hidden. The common model's logits of such a patient get no blend.
        """
        classes = logits_BC.shape[1]
        shares_BC = self.shares * known_BX[:, classes : 2 * classes]
        score_BC = known_alone(known_BX, presence_Bm, classes)
        if self.scale is not None:
            return logits_BC + self.scale * score_BC + shares_BC
        if self.training or self.blend is None:
            return logits_BC + shares_BC
        blend_B1 = self.blend * (score_BC != 0).any(dim=1, keepdim=True)
        return (1 - blend_B1) * logits_BC + blend_B1 * score_BC + shares_BC


class SharedLinear(nn.Module):
    """A linear model on the numbers of all modalities. All hospitals share it; its weights start at 0."""

    def __init__(self, rows_m: Sequence[int], width: int, classes: int) -> None:
        super().__init__()
        self.rows_m = tuple(rows_m)
        self.weight_XC = nn.Parameter(torch.zeros(sum(rows_m) * width, classes))

    def forward(self, numbers_BRD: Tensor, presence_Bm: Tensor) -> Tensor:
        """Return the term that is added to the logits, (B, C). Modalities that the model does not see contribute 0."""
        rows_m = torch.tensor(self.rows_m, device=presence_Bm.device)
        seen_BR = presence_Bm.repeat_interleave(rows_m, dim=1).to(numbers_BRD.dtype)
        return GAIN * (numbers_BRD * seen_BR.unsqueeze(2)).flatten(1) @ self.weight_XC


class Baseline(nn.Module):
    """Add a hospital's own number to each logit, 0 at first: of survival, its baseline hazard in each interval.

    It stays at the hospital, whatever the rule. The odds ratio of two patients is the same at all hospitals, as in the
    discrete-time model of Cox (1972) with hospitals as strata.
    """

    stays = frozenset({"offset_C"})

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.offset_C = nn.Parameter(torch.zeros(classes))

    def forward(self, logits_BC: Tensor) -> Tensor:
        """Return the logits of this hospital's patients, (B, C)."""
        return logits_BC + GAIN * self.offset_C


def known_rows(classes: int, modalities: int, width: int) -> int:
    """Return the number of tokens that hold a site's scores, class shares, and the modalities of the scores."""
    return ceil((2 * classes + modalities) / width)


def known_alone(known_BX: Tensor, presence_Bm: Tensor, classes: int) -> Tensor:
    """Return the scores (B, C); 0 where they were computed from other modalities than the model sees.

    If a modality is hidden from the model, in training or to measure its value, the scores must not reveal it.
    """
    modalities = presence_Bm.shape[1]
    same_B = (known_BX[:, 2 * classes : 2 * classes + modalities] == presence_Bm.to(known_BX.dtype)).all(dim=1)
    return known_BX[:, :classes] * same_B.unsqueeze(1)
