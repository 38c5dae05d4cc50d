"""ShaSpec (Wang et al., CVPR 2023, arXiv 2307.14126): shared features and modality-specific features.

    s_i = E_sh(A_i h_i),  r_i = E_i(h_i),  h_i = mean of the tokens of modality i
    f_i = s_i + P[s_i; r_i] where modality i is present, else the mean of s_j over the present j
    head on [LN f_1; …; LN f_m]
    loss + .1·mean over pairs of present modalities of |s_i − s_j| + .02·mean over present i of CE(classifier(r_i), i)

The released code uses the first present s_j for an absent modality, and also compares s of absent modalities; we follow
the paper. Differences: LN before the head; E_sh, E_i are perceptrons on the mean of a modality's tokens, because all
methods share the encoders of the run; the adapter A_i to a common shape is a linear layer; the CE over modalities
requires two modalities or more.

Shapes: B patients, m modalities, D width, C classes.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import Count, NonNegative
from remind.fusion.base import Context, FusionModel, FusionOptions, FusionOutput, registry
from remind.fusion.layers import modality_means, perceptron


class ShaSpecOptions(FusionOptions):
    """The paper's settings."""

    alignment: NonNegative = Field(0.1, description="factor of the distance between shared features")
    classification: NonNegative = Field(0.02, description="factor of the loss of naming the modality")
    expansion: Count = Field(2, description="hidden width of the networks, in units of D")


@registry.register(
    "shaspec",
    title="features shared by modalities and specific to each; an absent modality is the mean of the shared ones",
    paper="Wang et al., CVPR 2023, arXiv 2307.14126",
    year=2023,
    options=ShaSpecOptions,
)
class ShaSpec(FusionModel):
    """Both stages are the same; no parameter belongs to a group."""

    private = True

    def __init__(self, context: Context, options: ShaSpecOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, len(context.modalities)
        hidden = options.expansion * width
        self.alignment, self.classification = options.alignment, options.classification
        self.adapters = nn.ModuleList(nn.Linear(width, width) for _ in range(modalities))
        self.shared = perceptron(width, hidden, width, context.dropout)
        self.specific = nn.ModuleList(perceptron(width, hidden, width, context.dropout) for _ in range(modalities))
        self.project = nn.Linear(2 * width, width)
        if modalities > 1:
            self.classifier = nn.Linear(width, modalities)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(modalities * width, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        means = modality_means(tokens).unbind(1)
        s_BmD = torch.stack([self.shared(a(h_BD)) for a, h_BD in zip(self.adapters, means, strict=True)], dim=1)
        r_BmD = torch.stack([e(h_BD) for e, h_BD in zip(self.specific, means, strict=True)], dim=1)
        has_Bm1 = presence_Bm.unsqueeze(2)
        mean_B1D = torch.where(has_Bm1, s_BmD, 0.0).sum(dim=1, keepdim=True) / has_Bm1.sum(dim=1, keepdim=True)
        own_BmD = s_BmD + self.project(torch.cat([s_BmD, r_BmD], dim=2))
        f_BmD = self.norm(torch.where(has_Bm1, own_BmD, mean_B1D.to(own_BmD.dtype)))
        auxiliary_B = self._auxiliary(s_BmD, r_BmD, presence_Bm) if self.training else None
        return FusionOutput(self.head(f_BmD.flatten(1)), auxiliary_B=auxiliary_B)

    def _auxiliary(self, s_BmD: Tensor, r_BmD: Tensor, presence_Bm: Tensor) -> Tensor | None:
        """Return the sum of both added losses for each patient, (B,); None if the cohort has only one modality."""
        modalities = presence_Bm.shape[1]
        if modalities == 1:
            return None
        first, second = torch.tensor(list(combinations(range(modalities), 2)), device=s_BmD.device).unbind(1)
        both_Bp = presence_Bm[:, first] & presence_Bm[:, second]
        distance_Bp = (s_BmD[:, first] - s_BmD[:, second]).abs().mean(dim=2)
        logits_Bmm = self.classifier(r_BmD)
        name_Bm = torch.arange(modalities, device=s_BmD.device).expand(len(presence_Bm), -1)
        named_Bm = functional.cross_entropy(logits_Bmm.transpose(1, 2), name_Bm, reduction="none")
        return self.alignment * _mean(distance_Bp, both_Bp) + self.classification * _mean(named_Bm, presence_Bm)


def _mean(value_Bn: Tensor, counts_Bn: Tensor) -> Tensor:
    """Return the mean of each row over the entries that count, (B,); 0 if no entry counts."""
    total_B = torch.where(counts_Bn, value_Bn, 0.0).sum(dim=1)
    return total_B / counts_Bn.sum(dim=1).clamp(min=1)
