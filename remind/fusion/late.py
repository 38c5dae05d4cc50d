"""Late fusion: each modality has its own classifier, and the predictions of the present modalities are averaged.

    p = 1/|g| · Σ_{i∈g} softmax(f_i(mean z_i));  logits = ln p

Probabilities are averaged, not logits, so that one modality with a confident wrong prediction cannot dominate the
others.

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


class LateOptions(FusionOptions):
    """Size of a modality's network."""

    expansion: Count = Field(2, description="hidden width of a modality's network, in units of D")


@registry.register(
    "late",
    title="average of the predictions of the present modalities",
    paper="textbook baseline; Baltrušaitis et al., TPAMI 2019, arXiv 1705.09406",
    year=2019,
    options=LateOptions,
)
class LateFusion(FusionModel):
    """Fusion without parameters that belong to a group."""

    outcomes = "it averages probabilities of classes"

    private = True

    def __init__(self, context: Context, options: LateOptions) -> None:
        super().__init__(context, options)
        width, hidden = context.width, options.expansion * context.width
        self.hidden = nn.ModuleList(
            normed(width, hidden_layer(width, hidden, context.dropout)) for _ in context.modalities
        )
        self.head = nn.ModuleList(nn.Linear(hidden, context.classes) for _ in context.modalities)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        means_BmD = modality_means(tokens)
        networks = zip(self.hidden, self.head, means_BmD.unbind(1), strict=True)
        own_BmC = torch.stack([head(hidden(mean_BD)) for hidden, head, mean_BD in networks], dim=1)
        log_p_BmC = own_BmC.log_softmax(dim=2).masked_fill(~presence_Bm.unsqueeze(2), -torch.inf)
        present_B1 = presence_Bm.sum(dim=1, keepdim=True).to(log_p_BmC.dtype)
        return FusionOutput(log_p_BmC.logsumexp(dim=1) - present_B1.log())
