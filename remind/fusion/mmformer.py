"""mmFormer (Zhang et al., MICCAI 2022, arXiv 2206.02425): a transformer within each modality, then one over all.

    intra: H_i = layer_i(z_i + p_i);  Z = [δ_1·H_1; …; δ_m·H_m] + P,  δ_i = 1 where modality i is present, else 0
    inter: Z ← layer(Z);  head on the mean of LN Z over all M tokens
    loss + auxiliary·Σ_{i present} ℓ(auxiliary head_i(mean of H_i))

The mask δ also hides modalities at random in training, as in the paper (`modality-dropout`, default 0.5; in the paper
each of the 2⁴ − 1 combinations of sequences is equally likely). Tokens of an absent modality are 0 and take part in
attention, as in the paper. Differences: the encoders are those of the run, common to all methods; the task is
classification, so there is one auxiliary head per modality instead of one per level of a decoder.

Shapes: B patients, m modalities, l_i tokens of modality i, M tokens in all, D width, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from remind.config import Count, Fraction, NonNegative
from remind.fusion.base import Context, Criterion, FusionModel, FusionOptions, FusionOutput, registry
from remind.fusion.layers import TransformerLayer, modality_means
from remind.privacy.tape import per_patient


class MMFormerOptions(FusionOptions):
    """The paper's settings. The paper has 8 heads; here the run sets their number."""

    modality_dropout: Fraction = Field(0.5, description="chance of each present modality to be hidden while training")
    layers: Count = Field(1, description="transformer layers within each modality, and over all")
    expansion: Count = Field(4, description="hidden width of a layer's perceptron, in units of D")
    auxiliary: NonNegative = Field(1.0, description="factor of the losses of the modalities' own heads")


@dataclass(frozen=True, kw_only=True)
class WithOwnHeads(FusionOutput):
    """Output in training: also the class logits of each modality's own head."""

    own_BmC: Tensor
    presence_Bm: Tensor
    factor: float

    @override
    def loss(self, label_B: Tensor, criterion: Criterion) -> Tensor:
        own_Bm = torch.stack([criterion(own_BC, label_B) for own_BC in self.own_BmC.unbind(1)], dim=1)
        return criterion(self.logits_BC, label_B) + self.factor * torch.where(self.presence_Bm, own_Bm, 0.0).sum(dim=1)


@registry.register(
    "mmformer",
    title="transformers within modalities and over all; absent tokens 0, modalities hidden at random, a head each",
    paper="Zhang et al., MICCAI 2022, arXiv 2206.02425",
    year=2022,
    options=MMFormerOptions,
)
class MMFormer(FusionModel):
    """Both stages are the same; no parameter belongs to a group."""

    private = True
    taped = frozenset({"own_position", "position_MD"})
    takes_alone = False  # its loss has more inputs than the common logits
    masks = "it has a classifier of each modality, and no mask of each"

    def __init__(self, context: Context, options: MMFormerOptions) -> None:
        super().__init__(context, options)
        width, hidden = context.width, options.expansion * context.width
        self.factor = options.auxiliary

        def layers() -> nn.Sequential:
            return nn.Sequential(
                *(TransformerLayer(width, context.heads, hidden, context.dropout) for _ in range(options.layers))
            )

        self.own_position = nn.ParameterList(nn.Parameter(torch.zeros(n, width)) for n in context.tokens)
        self.own_layers = nn.ModuleList(layers() for _ in context.tokens)
        self.own_heads = nn.ModuleList(nn.Linear(width, context.classes) for _ in context.tokens)
        self.position_MD = nn.Parameter(torch.zeros(sum(context.tokens), width))
        self.layers = layers()
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        parts = zip(tokens, self.own_position, self.own_layers, presence_Bm.unbind(1), strict=True)
        own = [
            torch.where(has_B[:, None, None], layers(z_BlD + per_patient(p_lD, z_BlD.shape[0])), 0.0)
            for z_BlD, p_lD, layers, has_B in parts
        ]
        z_BMD = self.layers(torch.cat(own, dim=1) + per_patient(self.position_MD, group_B.shape[0]))
        logits_BC = self.head(self.norm(z_BMD).mean(dim=1))
        if not self.training:
            return FusionOutput(logits_BC)
        means = modality_means(own).unbind(1)
        own_BmC = torch.stack([head(mean_BD) for head, mean_BD in zip(self.own_heads, means, strict=True)], dim=1)
        return WithOwnHeads(logits_BC, own_BmC=own_BmC, presence_Bm=presence_Bm, factor=self.factor)
