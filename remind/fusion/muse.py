"""MUSE (Wu et al., ICLR 2024): a bipartite graph of patients and modalities, and a contrastive loss of two views of it.

An edge connects patient b to each modality i that b has, with features e_{bi} = A_i·(mean of the tokens). x_b = 1, x_i
is learned. Two layers, each with its own W, U, MLP:

    m_{j→u} = relu(W[x_j; e_{ju}]);  x_u ← relu(U[mean over neighbours j of m_{j→u}; x_u])
    e_{bi} ← MLP([e_{bi}; x_b; x_i])

    head on x_b;  loss + contrast·InfoNCE_b + supervised·SupCon_b, temperature .07, cosine similarities

InfoNCE separates the two views of a patient (each edge is dropped with probability .5, at least one is kept) from those
of the other patients of the step. SupCon (Khosla et al. 2020) makes patients of the step with the same label similar.
Difference, so that a prediction can be repeated: outside training the modality nodes receive messages from a fixed
sample of training patients of the same site (`Support.patients`), never from patients of the batch. In a federation the
graph of a step contains the patients of one site.

Shapes: B patients, m modalities, D width, C classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import Count, NonNegative, Positive
from remind.fusion.base import Context, Criterion, FusionOutput, registry
from remind.fusion.comparing import ComparingModel, ComparingOptions
from remind.fusion.layers import modality_means, perceptron
from remind.fusion.modality_dropout import drop_modalities

Edges = tuple[Tensor, Tensor]  # features e (B, m, D), and whether each edge exists (B, m)


class MuseOptions(ComparingOptions):
    """The paper's settings."""

    layers: Count = Field(2, description="rounds of messages")
    drop: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="chance of an edge to be dropped from a view")
    contrast: NonNegative = Field(0.5, description="factor of the contrast between the two views of a patient")
    supervised: NonNegative = Field(0.5, description="factor of the contrast between patients of different labels")
    temperature: Positive = Field(0.07, description="of both contrasts")


@dataclass(frozen=True, kw_only=True)
class TwoViews(FusionOutput):
    """Output in training: also both views of each patient, normalised, (B, D)."""

    one_BD: Tensor
    other_BD: Tensor
    options: MuseOptions

    @override
    def loss(self, label_B: Tensor, criterion: Criterion) -> Tensor:
        loss_B, own = criterion(self.logits_BC, label_B), self.options
        similar_BB = self.one_BD @ self.other_BD.t() / own.temperature
        same_B = torch.arange(len(label_B), device=label_B.device)
        towards_B = functional.cross_entropy(similar_BB, same_B, reduction="none")
        back_B = functional.cross_entropy(similar_BB.t(), same_B, reduction="none")
        loss_B = loss_B + own.contrast * (towards_B + back_B) / 2
        return loss_B + own.supervised * supervised_contrast(self.one_BD, label_B, own.temperature)


class Messages(nn.Module):
    """One round of messages. The last round does not update the edges, because nothing uses them afterwards."""

    def __init__(self, width: int, dropout: float, last: bool) -> None:
        super().__init__()
        self.message = nn.Linear(2 * width, width)
        self.update = nn.Linear(2 * width, width)
        self.edge = None if last else perceptron(3 * width, width, width, dropout)

    def sent(self, x_D: Tensor, e_BmD: Tensor) -> Tensor:
        """Return the messages from nodes x along all edges, (B, m, D); x is broadcast."""
        return torch.relu(self.message(torch.cat([x_D.expand_as(e_BmD), e_BmD], dim=2)))

    def updated(self, received: Tensor, x: Tensor) -> Tensor:
        """Return the nodes after a round, from the mean message and the previous node, (…, D)."""
        return torch.relu(self.update(torch.cat([received, x], dim=-1)))

    def edges(self, e_BmD: Tensor, x_BD: Tensor, x_mD: Tensor) -> Tensor:
        """Return the edges after a round, (B, m, D)."""
        if self.edge is None:
            return e_BmD
        ends = [x_BD.unsqueeze(1).expand_as(e_BmD), x_mD.expand_as(e_BmD)]
        out_BmD: Tensor = self.edge(torch.cat([e_BmD, *ends], dim=2))
        return out_BmD


@registry.register(
    "muse",
    title="bipartite graph of patients and modalities, contrast between two views with dropped edges",
    paper="Wu et al., ICLR 2024, openreview Je5SHCKpPa",
    year=2024,
    options=MuseOptions,
)
class Muse(ComparingModel):
    """Both stages are the same; no parameter belongs to a group. The loss couples the patients of a step."""

    takes_alone = False  # its loss has more inputs than the common logits
    outcomes = "it contrasts patients of different classes"

    def __init__(self, context: Context, options: MuseOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, len(context.modalities)
        self.options = options
        self.adapters = nn.ModuleList(nn.Linear(width, width) for _ in range(modalities))
        self.node_mD = nn.Parameter(torch.randn(modalities, width))
        last = options.layers - 1
        self.rounds = nn.ModuleList(Messages(width, context.dropout, n == last) for n in range(options.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        edges = self._edges(modality_means(tokens), presence_Bm)
        if not self.training:
            return FusionOutput(self.head(self._patients(edges, self._edges(*self.reference(tokens[0])))))
        logits_BC = self.head(self._patients(edges, edges))
        views = [(edges[0], drop_modalities(presence_Bm, self.options.drop)) for _ in range(2)]
        one_BD, other_BD = (functional.normalize(self._patients(view, view), dim=1) for view in views)
        return TwoViews(logits_BC, one_BD=one_BD, other_BD=other_BD, options=self.options)

    def _edges(self, means_BmD: Tensor, presence_Bm: Tensor) -> Edges:
        parts = zip(self.adapters, means_BmD.unbind(1), strict=True)
        return torch.stack([adapter(mean_BD) for adapter, mean_BD in parts], dim=1), presence_Bm

    def _patients(self, edges: Edges, reference: Edges) -> Tensor:
        """Return the nodes of the patients after all rounds, (B, D).

        Modality nodes receive messages only from the patients of `reference`. If these are the same patients, as in
        training, the graph is the paper's.
        """
        (e_BmD, has_Bm), (r_RmD, has_Rm) = edges, reference
        alone = reference is edges
        x_BD, y_RD = torch.ones_like(e_BmD[:, 0]), torch.ones_like(r_RmD[:, 0])
        x_mD: Tensor = self.node_mD
        for layer in cast("Iterable[Messages]", self.rounds):
            to_mD = _mean(layer.sent(y_RD.unsqueeze(1), r_RmD), has_Rm, dim=0)
            new_BD = layer.updated(_mean(layer.sent(x_mD, e_BmD), has_Bm, dim=1), x_BD)
            new_RD = new_BD if alone else layer.updated(_mean(layer.sent(x_mD, r_RmD), has_Rm, dim=1), y_RD)
            x_mD, x_BD, y_RD = layer.updated(to_mD, x_mD.to(to_mD.dtype)), new_BD, new_RD
            e_BmD = layer.edges(e_BmD, x_BD, x_mD)
            r_RmD = e_BmD if alone else layer.edges(r_RmD, y_RD, x_mD)
        out_BD: Tensor = self.norm(x_BD)
        return out_BD


def _mean(value_BmD: Tensor, has_Bm: Tensor, dim: int) -> Tensor:
    """Return the mean over the existing edges along a dimension; 0 if there are none."""
    total = torch.where(has_Bm.unsqueeze(2), value_BmD, 0.0).sum(dim=dim)
    return total / has_Bm.sum(dim=dim).clamp(min=1).unsqueeze(1)


def supervised_contrast(z_BD: Tensor, label_B: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss of each patient, (B,) (Khosla et al. 2020, L_out); 0 without a peer.

    Parameters
    ----------
    z_BD
        Normalised representations.
    label_B
        Classes. Peers are the other patients of the same class.
    temperature
        Divisor of the similarities.
    """
    itself_BB = torch.eye(len(z_BD), dtype=torch.bool, device=z_BD.device)
    similar_BB = (z_BD @ z_BD.t() / temperature).masked_fill(itself_BB, -torch.inf)
    log_p_BB = similar_BB - similar_BB.logsumexp(dim=1, keepdim=True)
    peer_BB = (label_B.unsqueeze(0) == label_B.unsqueeze(1)) & ~itself_BB
    total_B = torch.where(peer_BB, log_p_BB, 0.0).sum(dim=1)
    return -total_B / peer_BB.sum(dim=1).clamp(min=1)
