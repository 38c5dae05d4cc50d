"""Masked self-attention: tokens of absent modalities are masked, as if the patient's sequence were shorter.

    Z ← Z + MHA(LN Z; present tokens);  Z ← Z + MLP(LN Z);  head on the mean of LN Z over the present tokens

With modality dropout this is a simple and strong baseline. It has no position and no modality embeddings: tokens of
different encoders already differ.

Shapes: B patients, m modalities, M tokens in all, D width, C classes.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from remind.config import Count
from remind.fusion.base import Context, FusionModel, FusionOptions, FusionOutput, registry
from remind.fusion.layers import TransformerLayer, seen_tokens


class AttentionOptions(FusionOptions):
    """Size of the transformer."""

    layers: Count = Field(1, description="transformer layers")
    expansion: Count = Field(4, description="hidden width of a layer's perceptron, in units of D")


@registry.register(
    "attention",
    title="self-attention over the tokens of present modalities",
    paper="textbook baseline; Vaswani et al., NeurIPS 2017, arXiv 1706.03762",
    year=2017,
    options=AttentionOptions,
)
class AttentionFusion(FusionModel):
    """Fusion without parameters that belong to a group or to a modality."""

    private = True

    def __init__(self, context: Context, options: AttentionOptions) -> None:
        super().__init__(context, options)
        width, hidden = context.width, options.expansion * context.width
        self.layers = nn.ModuleList(
            TransformerLayer(width, context.heads, hidden, context.dropout) for _ in range(options.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        seen_BM = seen_tokens(presence_Bm, [z_BlD.shape[1] for z_BlD in tokens])
        z_BMD = torch.cat(list(tokens), dim=1)
        for layer in self.layers:
            z_BMD = layer(z_BMD, seen_BM)
        x_BMD = torch.where(seen_BM.unsqueeze(2), self.norm(z_BMD), 0.0)
        return FusionOutput(self.head(x_BMD.sum(dim=1) / seen_BM.sum(dim=1, keepdim=True)))
