"""FedFeatGen (Poudel et al. 2025, arXiv 2505.20232): networks predict the features of one modality from another.

    h_i = mean of the tokens of modality i
    f_j = h_j where modality j is present, else the mean over the present i of T_ij(h_i)
    head on [LN f_1; …; LN f_m]
    loss + imputation·mean over ordered pairs (i, j) of present modalities of ‖T_ij(h_i) − h_j‖²/D

T_ij, the paper's feature imputation network, is one small network for each ordered pair. It is averaged over sites with
the rest of the fusion model, so that a hospital without modality j receives the T_ij that other hospitals have trained.
Differences: the paper has two modalities and trains T_ij after the encoders, in a separate epoch. Here both train in
the same step, and the features are constants in the loss of T_ij, so that this loss changes only T_ij. The paper does
not define the case of several sources; we use their mean.

Shapes: B patients, m modalities, p ordered pairs, D width, F hidden width, C classes.
"""

from collections.abc import Sequence
from itertools import permutations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import Count, NonNegative
from remind.fusion.base import Context, FusionModel, FusionOptions, FusionOutput, registry
from remind.fusion.layers import modality_means


class FedFeatGenOptions(FusionOptions):
    """Our sizes: the paper only says that the network is small and keeps the dimension of the features."""

    imputation: NonNegative = Field(1.0, description="factor of the translators' squared error")
    expansion: Count = Field(1, description="hidden width F of a translator, in units of D")


class Translators(nn.Module):
    """T_ij(h) = W2_ij gelu(W1_ij h + b1_ij) + b2_ij, for every ordered pair (i, j) of modalities at once."""

    def __init__(self, modalities: int, width: int, hidden: int) -> None:
        super().__init__()
        self.pairs = list(permutations(range(modalities), 2))
        number = len(self.pairs)
        self.first_pDF = nn.Parameter(torch.empty(number, width, hidden).uniform_(-(width**-0.5), width**-0.5))
        self.first_pF = nn.Parameter(torch.zeros(number, hidden))
        self.second_pFD = nn.Parameter(torch.empty(number, hidden, width).uniform_(-(hidden**-0.5), hidden**-0.5))
        self.second_pD = nn.Parameter(torch.zeros(number, width))

    def forward(self, h_BmD: Tensor) -> Tensor:
        """Return the translation of each pair, (B, p, D)."""
        source_BpD = h_BmD[:, [i for i, _ in self.pairs]]
        hidden_BpF = functional.gelu(torch.einsum("bpd,pdf->bpf", source_BpD, self.first_pDF) + self.first_pF)
        return torch.einsum("bpf,pfd->bpd", hidden_BpF, self.second_pFD) + self.second_pD


@registry.register(
    "fedfeatgen",
    title="networks translate features of present modalities into those of absent ones",
    paper="Poudel et al., arXiv 2505.20232",
    year=2025,
    options=FedFeatGenOptions,
)
class FedFeatGen(FusionModel):
    """Both stages are the same; no parameter belongs to a group."""

    one_space = True

    def __init__(self, context: Context, options: FedFeatGenOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, len(context.modalities)
        self.imputation = options.imputation
        self.translators = Translators(modalities, width, options.expansion * width) if modalities > 1 else None
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(context.dropout)
        self.head = nn.Linear(modalities * width, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        h_BmD = modality_means(tokens)
        if self.translators is None:
            return FusionOutput(self._classified(h_BmD))
        source, target = torch.tensor(self.translators.pairs, device=h_BmD.device).unbind(1)
        translated_BpD = self.translators(h_BmD)
        has_Bp = presence_Bm[:, source]
        known_BpD = torch.where(has_Bp.unsqueeze(2), translated_BpD, 0.0)
        total_BmD = torch.zeros_like(h_BmD).index_add(1, target, known_BpD.to(h_BmD.dtype))
        sources_Bm1 = presence_Bm.sum(dim=1, keepdim=True).unsqueeze(2) - presence_Bm.unsqueeze(2).long()
        f_BmD = torch.where(presence_Bm.unsqueeze(2), h_BmD, total_BmD / sources_Bm1.clamp(min=1))
        auxiliary_B = None
        if self.training and self.imputation > 0:
            error_Bp = (self.translators(h_BmD.detach()) - h_BmD.detach()[:, target]).square().mean(dim=2)
            both_Bp = has_Bp & presence_Bm[:, target]
            pairs_B = both_Bp.sum(dim=1).clamp(min=1)
            auxiliary_B = self.imputation * torch.where(both_Bp, error_Bp, 0.0).sum(dim=1) / pairs_B
        return FusionOutput(self._classified(f_BmD), auxiliary_B=auxiliary_B)

    def _classified(self, f_BmD: Tensor) -> Tensor:
        logits_BC: Tensor = self.head(self.dropout(self.norm(f_BmD)).flatten(1))
        return logits_BC
