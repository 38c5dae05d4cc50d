"""ConfSMoE (Zheng et al., 2025, arXiv 2505.19525): sparse experts with a confidence gate, and two imputations.

    first imputation:   Z_i = a learned embedding of modality i where it is missing
    experts:            O = Z + Σ_{e ∈ top 2} c_e·expert_e(LN Z),  c_e = σ(confidence_e(LN Z))
    second imputation:  a missing O_i ← O_i + sparse attention of O_i to the O_j of the present j: each token keeps the
                        top quarter of its scores
    head on the concatenated means of the modalities' blocks
    loss + confidence·mean over the patient's own tokens and their kept experts of (c_e − p_y)²

p_y is the probability that the model gives the patient's true class, without gradient. It is the target of the
confidence, so labels are used in training only. The gate is not a softmax: according to the paper, competition in the
softmax makes experts collapse. There is no balance loss. Our choices where the paper defines nothing: the confidence is
a linear layer on the expert's input, so that experts that are not kept need not be computed; p_y is the probability of
the whole model; means are over the patient's own tokens, so that imputed tokens do not train the gate by their error.
The task's loss trains the confidence too, through the gate c_e: p_y is the same for all experts, so that the regression
alone would not tell which expert is good for a token.

Shapes: B patients, m modalities, l_i tokens of modality i, M tokens in all, N = B·M, D width, E experts, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from remind.config import Count, NonNegative
from remind.fusion.base import Context, Criterion, FusionModel, FusionOutput, registry
from remind.fusion.layers import modality_means, seen_tokens
from remind.fusion.sparse import SparseMoE, SparseOptions

KEPT = 4  # one in this many scores is kept


class ConfSMoEOptions(SparseOptions):
    """The paper's settings."""

    experts: Count = Field(4, description="E")
    top_k: Count = Field(2, description="experts kept per token")
    auxiliary: NonNegative = Field(0.1, description="factor of the confidence's squared error")
    expansion: Count = Field(2, description="hidden width of an expert, in units of D")


@dataclass(frozen=True, kw_only=True)
class WithConfidence(FusionOutput):
    """Output in training: also the confidences of the kept experts."""

    confidence_BME: Tensor
    counts_BME: Tensor
    factor: float

    @override
    def loss(self, label_B: Tensor, criterion: Criterion) -> Tensor:
        p_BC = self.logits_BC.detach().softmax(dim=1)
        p_B11 = p_BC.gather(1, label_B.unsqueeze(1)).unsqueeze(2)
        error_B = torch.where(self.counts_BME, (self.confidence_BME - p_B11).square(), 0.0).sum(dim=(1, 2))
        return criterion(self.logits_BC, label_B) + self.factor * error_B / self.counts_BME.sum(dim=(1, 2))


@registry.register(
    "confsmoe",
    title="sparse experts gated by confidence in the true class; missing modalities imputed before and after them",
    paper="Zheng et al., 2025, arXiv 2505.19525",
    year=2025,
    options=ConfSMoEOptions,
)
class ConfSMoE(FusionModel):
    """Both stages are the same; no parameter belongs to a group."""

    outcomes = "its gate learns from the probability of the true class"

    takes_alone = False  # its loss has more inputs than the common logits

    def __init__(self, context: Context, options: ConfSMoEOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, len(context.modalities)
        self.top_k, self.experts, self.factor = options.top_k, options.experts, options.auxiliary
        self.missing = nn.ParameterList(nn.Parameter(torch.randn(n, width) * 0.02) for n in context.tokens)
        self.moe_norm = nn.LayerNorm(width)
        self.confidence = nn.Linear(width, options.experts)
        self.moe = SparseMoE(options.experts, width, options.expansion * width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.dropout = nn.Dropout(context.dropout)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(modalities * width, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        filled = [
            torch.where(has_B[:, None, None], z_BlD, missing_lD.to(z_BlD.dtype))
            for z_BlD, missing_lD, has_B in zip(tokens, self.missing, presence_Bm.unbind(1), strict=True)
        ]
        z_BMD = torch.cat(filled, dim=1)
        x_ND = self.moe_norm(z_BMD).flatten(0, 1)
        confidence_NE = self.confidence(x_ND).sigmoid()
        kept_NE = torch.zeros_like(confidence_NE).scatter(1, confidence_NE.topk(self.top_k, dim=1).indices, 1.0)
        weight_NE = confidence_NE * kept_NE
        o_BMD = z_BMD + self.dropout(self.moe(x_ND, weight_NE).view_as(z_BMD))
        seen_BM = seen_tokens(presence_Bm, self.context.tokens)
        o_BMD = o_BMD + torch.where(seen_BM.unsqueeze(2), 0.0, self._borrow(o_BMD, seen_BM))
        means_BmD = modality_means(torch.split(self.norm(o_BMD), list(self.context.tokens), dim=1))
        logits_BC = self.head(means_BmD.flatten(1))
        shape = (*seen_BM.shape, self.experts)
        share_NE = weight_NE / weight_NE.sum(dim=1, keepdim=True)
        use_BE = share_NE.detach().view(shape).mean(dim=1)
        if not self.training:
            return FusionOutput(logits_BC, use_BE=use_BE)
        counts_BME = (kept_NE > 0).view(shape) & seen_BM.unsqueeze(2)
        confidence_BME = confidence_NE.view(shape)
        return WithConfidence(
            logits_BC, use_BE=use_BE, confidence_BME=confidence_BME, counts_BME=counts_BME, factor=self.factor
        )

    def _borrow(self, o_BMD: Tensor, seen_BM: Tensor) -> Tensor:
        """Attend from each token to the top quarter of the present tokens; return the result, (B, M, D)."""
        score_BMM = self.query(o_BMD) @ self.key(o_BMD).transpose(1, 2) / math.sqrt(o_BMD.shape[2])
        score_BMM = score_BMM.masked_fill(~seen_BM.unsqueeze(1), -torch.inf)
        kept_B = (seen_BM.sum(dim=1) + KEPT - 1) // KEPT
        sorted_BMM = score_BMM.detach().topk(score_BMM.shape[2], dim=2).values
        last_BM1 = sorted_BMM.gather(2, (kept_B - 1)[:, None, None].expand(-1, score_BMM.shape[1], 1))
        score_BMM = score_BMM.masked_fill(score_BMM < last_BM1, -torch.inf)
        borrowed_BMD: Tensor = score_BMM.softmax(dim=2) @ self.value(o_BMD)
        return borrowed_BMD
