"""Sparse mixtures of experts (Shazeer et al. 2017): a noisy gate selects the k best of E experts for every token.

Shapes: N tokens of all patients of a batch, D width, E experts, k experts per token, R selected (token, expert) pairs.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import Count, NonNegative
from remind.fusion.base import FusionOptions
from remind.fusion.experts import Experts
from remind.fusion.tracing import traced

NOISE_FLOOR = 0.01  # smallest standard deviation of a gate's noise
SHUT = -1e4  # score of a forbidden expert: finite, so that no gradient is inf·0, and exp(SHUT) is 0


class SparseOptions(FusionOptions):
    """Options that all sparse mixtures share."""

    experts: Count = Field(16, description="E")
    top_k: Count = Field(4, description="experts kept per token")
    auxiliary: NonNegative = Field(0.01, description="factor of the auxiliary losses")

    @model_validator(mode="after")
    def _keeps_at_most_all(self) -> Self:
        if self.top_k > self.experts:
            raise ValueError(f"top_k {self.top_k} is more than the {self.experts} experts")
        return self


@dataclass(frozen=True)
class Routing:
    """The result of a gate: the experts of each token.

    Attributes
    ----------
    weight_NE
        Softmax over the k kept experts, 0 for the others; rows sum to 1.
    score_NE
        The gate's scores before noise.
    load_NE
        Probability that the expert is kept if its noise is drawn again (Shazeer et al., Eq. 8–9). Unlike a count, it
        has a gradient. Without noise it is 1 for kept experts and 0 for others; if all experts are kept it is 1.
    """

    weight_NE: Tensor
    score_NE: Tensor
    load_NE: Tensor


class Gate(nn.Module, ABC):
    """Top-k gate; in training, noise ~ N(0, (softplus(x W) + .01)²) on the scores."""

    def __init__(self, width: int, experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.noise = nn.Linear(width, experts, bias=False)
        nn.init.zeros_(self.noise.weight)

    @abstractmethod
    def scores(self, x_ND: Tensor) -> Tensor:
        """Return the score of each expert for each token, (N, E)."""

    def forward(self, x_ND: Tensor, allowed_E: Tensor | None = None) -> Routing:
        """Route N tokens, only to the experts of `allowed_E` (bool)."""
        score_NE = self.scores(x_ND)
        if allowed_E is not None:
            score_NE = score_NE.masked_fill(~allowed_E, SHUT)
        if not self.training:
            weight_NE = top_k_softmax(score_NE, self.top_k)
            return Routing(weight_NE, score_NE, (weight_NE > 0).to(weight_NE.dtype))
        spread_NE = functional.softplus(self.noise(x_ND)) + NOISE_FLOOR
        noisy_NE = score_NE + torch.randn_like(score_NE) * spread_NE
        weight_NE = top_k_softmax(noisy_NE, self.top_k)
        load_NE = chance_of_top_k(score_NE, noisy_NE, spread_NE, self.top_k)
        return Routing(weight_NE, score_NE, load_NE if allowed_E is None else load_NE * allowed_E)


class LinearGate(Gate):
    """score_e = x · w_e."""

    def __init__(self, width: int, experts: int, top_k: int) -> None:
        super().__init__(width, experts, top_k)
        self.linear = nn.Linear(width, experts, bias=False)

    @override
    def scores(self, x_ND: Tensor) -> Tensor:
        score_NE: Tensor = self.linear(x_ND)
        return score_NE


class LaplaceGate(Gate):
    """score_e = −‖x − w_e‖₂, so that weights ∝ exp(−distance) among the kept (Han et al. 2024)."""

    def __init__(self, width: int, experts: int, top_k: int) -> None:
        super().__init__(width, experts, top_k)
        self.centre_ED = nn.Parameter(torch.randn(experts, width))  # the distribution of layer-normalised tokens

    @override
    def scores(self, x_ND: Tensor) -> Tensor:
        """Return the scores, computed from differences: the matrix product of cdist's fast path is too inaccurate."""
        if traced():  # ONNX has no cdist
            plain_NE: Tensor = (x_ND.unsqueeze(1) - self.centre_ED).norm(dim=-1)
            return -plain_NE
        distance_NE: Tensor = torch.cdist(x_ND, self.centre_ED, compute_mode="donot_use_mm_for_euclid_dist")
        return -distance_NE


class SparseMoE(nn.Module):
    """Σ_e weight_e · expert_e(x). It computes only experts with a nonzero weight, and drops no token."""

    def __init__(self, experts: int, width: int, hidden: int) -> None:
        super().__init__()
        self.experts = Experts(experts, width, hidden)

    def forward(self, x_ND: Tensor, weight_NE: Tensor) -> Tensor:
        """Map (N, D) → (N, D). Each expert has as many slots as the busiest one needs; tokens fill the first slots."""
        if traced():
            return self._every_expert(x_ND, weight_NE)
        experts = weight_NE.shape[1]
        expert_R, token_R = weight_NE.t().nonzero(as_tuple=True)  # sorted by expert
        count_E = torch.bincount(expert_R, minlength=experts)
        slots = int(count_E.max())
        before_E = count_E.cumsum(0) - count_E
        rank_R = torch.arange(len(expert_R), device=count_E.device) - before_E[expert_R]
        slot_R = expert_R * slots + rank_R
        in_XD = x_ND.new_zeros(experts * slots, x_ND.shape[1]).index_copy(0, slot_R, x_ND[token_R])
        out_XD = self.experts(in_XD.view(1, experts, slots, -1)).reshape(experts * slots, -1)
        y_RD = out_XD[slot_R] * weight_NE[token_R, expert_R].unsqueeze(1)
        out_ND: Tensor = y_RD.new_zeros(len(x_ND), y_RD.shape[1]).index_add(0, token_R, y_RD)
        return out_ND

    def _every_expert(self, x_ND: Tensor, weight_NE: Tensor) -> Tensor:
        """Compute the same sum over all experts, because the tokens per expert are unknown while tracing."""
        rows_1END = x_ND.expand(1, weight_NE.shape[1], -1, -1)
        out_END = self.experts(rows_1END).squeeze(0)
        return torch.einsum("ne,end->nd", weight_NE, out_END)


def top_k_softmax(score_NE: Tensor, top_k: int) -> Tensor:
    """Return the softmax over the k largest of each row, 0 elsewhere, (N, E)."""
    value_Nk, index_Nk = score_NE.topk(top_k, dim=1)
    kept_Nk = value_Nk.softmax(dim=1)
    return kept_Nk.new_zeros(score_NE.shape).scatter(1, index_Nk, kept_Nk)


def chance_of_top_k(score_NE: Tensor, noisy_NE: Tensor, spread_NE: Tensor, top_k: int) -> Tensor:
    """Return Φ((score_e − k-th largest noisy score of the others) / spread_e), (N, E) (Shazeer et al., Eq. 9)."""
    if top_k == score_NE.shape[1]:
        return torch.ones_like(score_NE)
    top_NK = noisy_NE.topk(top_k + 1, dim=1).values
    last_in_N1, first_out_N1 = top_NK[:, -2:-1], top_NK[:, -1:]
    rival_NE = torch.where(noisy_NE >= last_in_N1, first_out_N1, last_in_N1)
    chance_NE: Tensor = torch.special.ndtr((score_NE - rival_NE) / spread_NE)
    return chance_NE


def cv_squared(total_E: Tensor) -> Tensor:
    """Return the squared coefficient of variation, variance / mean², over the E experts; 0 for one expert."""
    return total_E.var(correction=0) / (total_E.mean().square() + 1e-10)


def balance_loss(weight_NE: Tensor, load_NE: Tensor) -> Tensor:
    """Return CV²(importance) + CV²(load): importance and load of an expert are its sums over the N tokens."""
    return cv_squared(weight_NE.sum(dim=0)) + cv_squared(load_NE.sum(dim=0))
