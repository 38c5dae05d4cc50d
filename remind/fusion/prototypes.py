"""Prototypes of each class in each modality. All hospitals share them, so that local encoders learn similar features.

    h_i = mean of the tokens of modality i;  P_ic ∈ R^D, the prototype of class c in modality i
    added to the loss of a patient of class y: mean over present i of
        factor · K(h_i, P_i, y) + ‖P_iy − h_i‖²/D,   K(h, P, y) = −log softmax_c(cos(h, P_c)/τ)_y

In K the prototypes are constants: an encoder learns to give the tokens of a class the same direction as at the other
hospitals. In the last term the features are constants: P_ic follows the mean feature of its class by gradient steps,
and is averaged with the rest of the fusion model. MFCPL (`fusion.mfcpl`) does the same; here it applies to any fusion
model.

Shapes: B patients, m modalities, D width, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from remind.fusion.layers import modality_means

PROTOTYPES = "fusion.prototypes.weight_mCD"  # its name in `SiteModel`
GAIN = 10.0  # scales the parameters, so that prototypes follow features within a round at a transformer's learning rate
TEMPERATURE = 0.5


class Prototypes(nn.Module):
    """P = GAIN · weight, initially 0. While P = 0, K is the same for every class and has no gradient."""

    def __init__(self, modalities: int, classes: int, width: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.weight_mCD = nn.Parameter(torch.zeros(modalities, classes, width))

    def forward(self, tokens: Sequence[Tensor], presence_Bm: Tensor) -> Tensor:
        """Return the term that is added to each patient's loss, for each class that the patient may have, (B, C)."""
        h_BmD, prototype_mCD = modality_means(tokens), GAIN * self.weight_mCD
        unit_mCD = functional.normalize(prototype_mCD.detach(), dim=2)
        cosine_BmC = torch.einsum("bmd,mcd->bmc", functional.normalize(h_BmD, dim=2), unit_mCD)
        contrast_BmC = -(cosine_BmC / TEMPERATURE).log_softmax(dim=2)
        distance_BmC = (prototype_mCD - h_BmD.detach().unsqueeze(2)).square().mean(dim=3)
        added_BmC = torch.where(presence_Bm.unsqueeze(2), self.factor * contrast_BmC + distance_BmC, 0.0)
        return added_BmC.sum(dim=1) / presence_Bm.sum(dim=1, keepdim=True)
