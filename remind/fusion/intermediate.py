"""Intermediate fusion: one feature network per modality, and a learned placeholder for a missing modality.

    h_i = gelu(W_i LN(mean z_i) + b_i), or placeholder_i;  logits = W2 gelu(W1 [h_1, …, h_m])

Shapes: B patients, m modalities, D width, C classes.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from remind.config import Count
from remind.fusion.base import Context, FusionModel, FusionOptions, FusionOutput, registry
from remind.fusion.layers import hidden_layer, modality_means, normed
from remind.privacy.tape import per_patient


class IntermediateOptions(FusionOptions):
    """Size of the joint network."""

    expansion: Count = Field(2, description="hidden width of the joint network, in units of D")


@registry.register(
    "intermediate",
    title="features of all modalities concatenated, a learned placeholder for missing ones",
    paper="textbook baseline; Baltrušaitis et al., TPAMI 2019, arXiv 1705.09406",
    year=2019,
    options=IntermediateOptions,
)
class IntermediateFusion(FusionModel):
    """Fusion without parameters that belong to a group."""

    private = True
    taped = frozenset({"placeholder_mD"})

    def __init__(self, context: Context, options: IntermediateOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, len(context.modalities)
        hidden = options.expansion * width
        self.features = nn.ModuleList(normed(width, nn.Linear(width, width), nn.GELU()) for _ in range(modalities))
        self.placeholder_mD = nn.Parameter(torch.randn(modalities, width) * 0.02)
        self.hidden = hidden_layer(modalities * width, hidden, context.dropout)
        self.head = nn.Linear(hidden, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        means_BmD = modality_means(tokens)
        own = [feature(mean_BD) for feature, mean_BD in zip(self.features, means_BmD.unbind(1), strict=True)]
        own_BmD = torch.stack(own, dim=1)
        placeholder_BmD = per_patient(self.placeholder_mD, own_BmD.shape[0])
        h_BmD = torch.where(presence_Bm.unsqueeze(2), own_BmD, placeholder_BmD.to(own_BmD.dtype))
        return FusionOutput(self.head(self.hidden(h_BmD.flatten(1))))
