"""MFCPL (Le et al. 2024, arXiv 2401.13898): a prototype of each class in each modality, averaged over the hospitals.

    h_i = mean of the tokens of modality i;  P_ic ∈ R^D, the prototype of class c in modality i
    q_c ∝ exp(mean over present i of cos(h_i, P_ic)/τ)
    f_i = h_i where modality i is present, else Σ_c q_c P_ic
    head on [LN f_1; …; LN f_m]
    loss + within·mean over present i of K(h_i, P_i, y) + across·mean over present i and j ≠ i of K(h_i, P_j, y)
         + mean over present i of ‖P_iy − h_i‖²/D,   K(h, P, y) = −log softmax_c(cos(h, P_c)/τ)_y

Prototypes are complete, as in the paper: a hospital without modality j receives the prototypes of the others. In K the
prototypes are constants, in the last term the features are. P_ic therefore follows the mean feature of its class by
gradient steps (of GAIN times a parameter, so that it does within a round at a transformer's learning rate), and is
averaged with the rest of the fusion model, with the same weights. In the paper each hospital sends means and counts.
Difference: in training PmcmFL (arXiv 2312.13508) replaces an absent modality with the prototype of the patient's own
class, which reveals the label to the head; here the mixture q replaces it, also in training.

Shapes: B patients, m modalities, D width, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import NonNegative, Positive
from remind.fusion.base import Context, Criterion, FusionModel, FusionOptions, FusionOutput, registry
from remind.fusion.layers import modality_means
from remind.fusion.prototypes import GAIN


class MFCPLOptions(FusionOptions):
    """Factors of the added losses."""

    within: NonNegative = Field(1.0, description="factor of the contrast with prototypes of the same modality")
    across: NonNegative = Field(1.0, description="factor of the contrast with prototypes of the other modalities")
    temperature: Positive = Field(0.5, description="τ")


@dataclass(frozen=True, kw_only=True)
class WithPrototypes(FusionOutput):
    """Output in training: also similarities and distances between features and prototypes.

    Attributes
    ----------
    similarity_BmmC
        cos(h_i, P_jc)/τ between the features of modality i and the prototypes of modality j.
    distance_BmC
        ‖P_ic − h_i‖²/D.
    """

    similarity_BmmC: Tensor
    distance_BmC: Tensor
    presence_Bm: Tensor
    within: float
    across: float

    @override
    def loss(self, label_B: Tensor, criterion: Criterion) -> Tensor:
        row_B, modalities = torch.arange(len(label_B), device=label_B.device), self.presence_Bm.shape[1]
        contrast_Bmm = -self.similarity_BmmC.log_softmax(dim=3)[row_B, :, :, label_B]
        own_Bm = contrast_Bmm.diagonal(dim1=1, dim2=2)
        other_Bm = (contrast_Bmm.sum(dim=2) - own_Bm) / max(modalities - 1, 1)
        added_Bm = self.within * own_Bm + self.across * other_Bm + self.distance_BmC[row_B, :, label_B]
        present_B = self.presence_Bm.sum(dim=1)
        return criterion(self.logits_BC, label_B) + torch.where(self.presence_Bm, added_Bm, 0.0).sum(dim=1) / present_B


@registry.register(
    "mfcpl",
    title="prototypes of each class and modality, common to all hospitals; a mixture of them for an absent modality",
    paper="Le et al., arXiv 2401.13898; Bao et al. (PmcmFL), arXiv 2312.13508",
    year=2024,
    options=MFCPLOptions,
)
class MFCPL(FusionModel):
    """Both stages are the same; no parameter belongs to a group."""

    outcomes = "it has a prototype of each class"
    by_class = ("weight_mCD",)
    one_space = True

    takes_alone = False  # its loss has more inputs than the common logits

    def __init__(self, context: Context, options: MFCPLOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, len(context.modalities)
        self.options = options
        self.weight_mCD = nn.Parameter(torch.zeros(modalities, context.classes, width))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(context.dropout)
        self.head = nn.Linear(modalities * width, context.classes)

    @property
    def prototypes_mCD(self) -> Tensor:
        """P = GAIN · weight, initially 0. While P = 0, the contrasts are the same for every class."""
        return GAIN * self.weight_mCD

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        h_BmD, has_Bm1, prototypes_mCD = modality_means(tokens), presence_Bm.unsqueeze(2), self.prototypes_mCD
        fixed_mCD = prototypes_mCD.detach()
        similarity_BmmC = torch.einsum("bid,jcd->bijc", _unit(h_BmD), _unit(fixed_mCD)) / self.options.temperature
        own_BmC = similarity_BmmC.diagonal(dim1=1, dim2=2).transpose(1, 2)
        mean_BC = torch.where(has_Bm1, own_BmC, 0.0).sum(dim=1) / presence_Bm.sum(dim=1, keepdim=True)
        stand_in_BmD = torch.einsum("bc,jcd->bjd", mean_BC.softmax(dim=1), fixed_mCD)
        f_BmD = torch.where(has_Bm1, h_BmD, stand_in_BmD.to(h_BmD.dtype))
        logits_BC = self.head(self.dropout(self.norm(f_BmD)).flatten(1))
        if not self.training:
            return FusionOutput(logits_BC)
        distance_BmC = (prototypes_mCD - h_BmD.detach().unsqueeze(2)).square().mean(dim=3)
        return WithPrototypes(
            logits_BC,
            similarity_BmmC=similarity_BmmC,
            distance_BmC=distance_BmC,
            presence_Bm=presence_Bm,
            within=self.options.within,
            across=self.options.across,
        )


def _unit(x: Tensor) -> Tensor:
    """Return x/‖x‖ over the last dimension; 0 for 0."""
    return functional.normalize(x, dim=-1)
