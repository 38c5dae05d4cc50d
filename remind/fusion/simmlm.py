"""SimMLM (Li et al., ICCV 2025, arXiv 2507.19264): dynamic mixture of modality experts, More-vs-Fewer ranking.

    o_i = expert_i(z_i);  w = softmax over the present of gate(z_1 … z_m);  o = Σ_i w_i·o_i
    stage 1: Σ_{i present} ℓ(o_i), each expert alone
    stage 2: ℓ(X⁺) + ℓ(X⁻) + .1·relu(ℓ(X⁺) − ℓ(X⁻)),  X⁻ ⊂ X⁺ of the same patient

Differences: an expert is a perceptron on the mean of its modality's tokens, because all methods share the encoders of
the run; the gate receives these means, zeros for absent modalities; it has one weight per modality, as in the paper
(the released code has one per modality and class). X⁺ is all modalities of the patient, X⁻ any strict subset: our
patients are incomplete, while the paper removes modalities at random. A patient with one modality has no pair and
counts 2·ℓ(X⁺), so that patients have equal weight. Outside training stage 1 predicts with equal weights, because the
gate is untrained. If the outcome is a mask, an expert is its perceptron together with the dense head on the maps of its
own modality; experts share that head and not its adapters to the modalities (the paper has a whole network each), and
X⁺ and X⁻ are mixtures of the same experts' masks, so that a pair sees the same volumes, moved alike by augmentation.

Shapes: B patients, m modalities, l_i tokens of modality i, D width, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from remind.config import Count, NonNegative
from remind.fusion.base import Context, Criterion, Decode, FusionModel, FusionOptions, FusionOutput, registry
from remind.fusion.layers import hidden_layer, modality_means, normed, perceptron
from remind.fusion.more_vs_fewer import draw_fewer, more_vs_fewer


class SimMLMOptions(FusionOptions):
    """The paper's settings."""

    ranking: NonNegative = Field(0.1, description="factor of the ranking loss")
    expansion: Count = Field(2, description="hidden width of experts and gate, in units of D")


@dataclass(frozen=True, kw_only=True)
class Mixture(FusionOutput):
    """Predictions of the experts and their weights; outside training it is all there is."""

    expert_BmC: Tensor
    weight_Bm: Tensor

    @override
    def decoded(self, decode: Decode, presence_Bm: Tensor) -> Self:
        """Let each expert steer the dense head on the maps of its own modality; the gate mixes their masks."""
        alone_mm = torch.eye(presence_Bm.shape[1], dtype=torch.bool, device=presence_Bm.device)
        experts = zip(self.expert_BmC.unbind(1), alone_mm, strict=True)
        expert_BmC = torch.stack([decode(steering_BC, presence_Bm & own_m) for steering_BC, own_m in experts], dim=1)
        return replace(self, expert_BmC=expert_BmC, logits_BC=_mix(self.weight_Bm, expert_BmC))


@dataclass(frozen=True, kw_only=True)
class ExpertsAlone(Mixture):
    """Output in stage 1, whose loss is the sum of the losses of the present modalities' experts."""

    presence_Bm: Tensor

    def loss(self, label_B: Tensor, criterion: Criterion) -> Tensor:
        """Return Σ_{i present} ℓ(o_i), (B,)."""
        loss_Bm = torch.stack([criterion(expert_BC, label_B) for expert_BC in self.expert_BmC.unbind(1)], dim=1)
        return torch.where(self.presence_Bm, loss_Bm, 0.0).sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class MoreAndFewer(Mixture):
    """Output in stage 2: the same patients with all and with fewer of their modalities."""

    fewer_weight_Bm: Tensor
    ranking: float

    @property
    def fewer_BC(self) -> Tensor:
        """Prediction from fewer modalities, (B, C)."""
        return _mix(self.fewer_weight_Bm, self.expert_BmC)

    def loss(self, label_B: Tensor, criterion: Criterion) -> Tensor:
        """Return ℓ(X⁺) + ℓ(X⁻) + ranking·relu(ℓ(X⁺) − ℓ(X⁻)), (B,)."""
        return more_vs_fewer(criterion(self.logits_BC, label_B), criterion(self.fewer_BC, label_B), self.ranking)


@registry.register(
    "simmlm",
    title="one expert per modality, weighted by a gate; more modalities must not do worse than fewer",
    paper="Li et al., ICCV 2025, arXiv 2507.19264",
    year=2025,
    options=SimMLMOptions,
)
class SimMLM(FusionModel):
    """DMoME. No parameter belongs to a group; `use_BE` contains the weights of the modality experts, E = m."""

    ranks = True
    takes_alone = False  # its loss uses the predictions of single modalities

    private = True

    def __init__(self, context: Context, options: SimMLMOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, len(context.modalities)
        hidden = options.expansion * width
        self.ranking = options.ranking
        self.hidden = nn.ModuleList(
            normed(width, hidden_layer(width, hidden, context.dropout)) for _ in range(modalities)
        )
        self.head = nn.ModuleList(nn.Linear(hidden, context.classes) for _ in range(modalities))
        self.gate = perceptron(modalities * width, hidden, modalities, context.dropout)

    @override
    def idle(self, name: str, routing: bool) -> bool:
        return not routing and name.startswith("gate.")

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        means_BmD = modality_means(tokens)
        networks = zip(self.hidden, self.head, means_BmD.unbind(1), strict=True)
        expert_BmC = torch.stack([head(hidden(mean_BD)) for hidden, head, mean_BD in networks], dim=1)
        weight_Bm = self._weights(means_BmD, presence_Bm) if routing else _equal(presence_Bm, expert_BmC.dtype)
        mixture = Mixture(
            _mix(weight_Bm, expert_BmC), use_BE=weight_Bm.detach(), expert_BmC=expert_BmC, weight_Bm=weight_Bm
        )
        if not self.training:
            return mixture
        if not routing:
            return ExpertsAlone(**vars(mixture), presence_Bm=presence_Bm)
        fewer_weight_Bm = self._weights(means_BmD, draw_fewer(presence_Bm))
        return MoreAndFewer(**vars(mixture), fewer_weight_Bm=fewer_weight_Bm, ranking=self.ranking)

    def _weights(self, means_BmD: Tensor, presence_Bm: Tensor) -> Tensor:
        """Return w of the present modalities, (B, m), 0 for absent ones."""
        seen_BmD = torch.where(presence_Bm.unsqueeze(2), means_BmD, 0.0)
        score_Bm: Tensor = self.gate(seen_BmD.flatten(1))
        return score_Bm.masked_fill(~presence_Bm, -torch.inf).softmax(dim=1)


def _equal(presence_Bm: Tensor, dtype: torch.dtype) -> Tensor:
    weight_Bm = presence_Bm.to(dtype)
    return weight_Bm / weight_Bm.sum(dim=1, keepdim=True)


def _mix(weight_Bm: Tensor, expert_BmC: Tensor) -> Tensor:
    return (weight_Bm.unsqueeze(2) * expert_BmC).sum(dim=1)
