"""Soft mixture of experts (Puigcerver et al. 2023; algorithm §2.3): every slot is a soft mix of all tokens.

Shapes: B patients, M tokens, D width, E experts, S slots per expert, H hidden width of an expert, N rows
(patients × slots).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from remind.privacy.tape import current_tape


def dispatch_weights(logits_BMES: Tensor) -> Tensor:
    """Share of each token in each slot: softmax over the M tokens (Eq. 5; algorithm §4.1), (B, M, E, S)."""
    return logits_BMES.softmax(dim=1)


def combine_weights(logits_BMES: Tensor, log_times_E: Tensor | None = None) -> Tensor:
    """Share of each slot in each token's output: softmax over all (E, S) (Eq. 6), (B, M, E, S).

    With `log_times_E` = ln m (`fusion.merging`), a merged expert counts as m equal experts.
    """
    if log_times_E is not None:
        logits_BMES = logits_BMES + log_times_E.unsqueeze(1)
    return logits_BMES.flatten(2).softmax(dim=-1).view_as(logits_BMES)


class Experts(nn.Module):
    """E two-layer perceptrons, slot ↦ W2 gelu(W1 slot + b1) + b2, held as batched matrices."""

    taped = frozenset({"w1_EDH", "b1_EH", "w2_EHD", "b2_ED"})

    def __init__(self, experts: int, width: int, hidden: int) -> None:
        super().__init__()
        self.w1_EDH = nn.Parameter(_uniform(experts, width, hidden, fan_in=width))
        self.b1_EH = nn.Parameter(torch.zeros(experts, hidden))
        self.w2_EHD = nn.Parameter(_uniform(experts, hidden, width, fan_in=hidden))
        self.b2_ED = nn.Parameter(torch.zeros(experts, width))

    def forward(self, slots_BESD: Tensor) -> Tensor:
        """Apply each expert to its own slots, (B, E, S, D) → (B, E, S, D)."""
        batch, experts, slots, width = slots_BESD.shape
        rows_END = slots_BESD.transpose(0, 1).reshape(experts, batch * slots, width)
        before_ENH = torch.baddbmm(self.b1_EH.unsqueeze(1), rows_END, self.w1_EDH)
        hidden_ENH = functional.gelu(before_ENH)
        out_END = torch.baddbmm(self.b2_ED.unsqueeze(1), hidden_ENH, self.w2_EHD)
        if (tape := current_tape()) is not None:

            def by_patient(rows_ENX: Tensor) -> Tensor:
                return rows_ENX.reshape(experts, batch, slots, rows_ENX.shape[2])

            tape.product(self.w1_EDH, self.b1_EH, by_patient(rows_END), before_ENH, by_patient)
            tape.product(self.w2_EHD, self.b2_ED, by_patient(hidden_ENH), out_END, by_patient)
        return out_END.view(experts, batch, slots, width).transpose(0, 1)


class SoftMoE(nn.Module):
    """Experts whose inputs and outputs are weighted by router logits; `fusion.routing` computes the logits."""

    def __init__(self, experts: int, width: int, hidden: int) -> None:
        super().__init__()
        self.experts = Experts(experts, width, hidden)

    def forward(self, x_BMD: Tensor, logits_BMES: Tensor, log_times_E: Tensor | None = None) -> Tensor:
        """Return combine · expert(dispatchᵀ x), (B, M, D). Experts receive x unnormalised (algorithm §4.3)."""
        batch, _, experts, slots = logits_BMES.shape
        dispatch_BMX = dispatch_weights(logits_BMES).flatten(2)
        combine_BMX = combine_weights(logits_BMES, log_times_E).flatten(2)
        slots_BXD = torch.bmm(dispatch_BMX.transpose(1, 2), x_BMD)
        out_BESD = self.experts(slots_BXD.view(batch, experts, slots, x_BMD.shape[2]))
        return torch.bmm(combine_BMX, out_BESD.flatten(1, 2))


def _uniform(*shape: int, fan_in: int) -> Tensor:
    """Initialise as `nn.Linear`, per expert, so that the variance does not depend on the number of experts."""
    bound = 1 / math.sqrt(fan_in)
    return torch.empty(*shape).uniform_(-bound, bound)
