"""FuseMoE (Han et al., NeurIPS 2024, arXiv 2402.03226): sparse experts with one Laplace gate per modality.

    Z_i = indicator_i where modality i is missing;  Z ← Z + MHA(LN Z)
    X = LN Z;  Z_i ← Z_i + Σ_{e ∈ top 2} softmax(g)_e · expert_e(X_i),  g_e = −‖X_i − w_{i,e}‖₂ (+ noise in training)
    head on the concatenated means of the modalities' blocks;  loss + .01·(CV²(importance) + CV²(load))

One router per modality and one pool of experts for all is the paper's best variant. Importance and load are sums over
all tokens of the batch. The released code differs from the paper; here, as in the paper, a missing modality is a
learned indicator, not zeros; the balance loss is part of the loss; patients attend to their own tokens only. Omitted:
the paper's encoder of irregular series (our encoders do this) and its depth (one layer, as all methods here).

Shapes: B patients, m modalities, l_i tokens of modality i, M tokens in all, N = B·M, D width, E experts.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from remind.config import Count
from remind.fusion.base import Context, FusionModel, FusionOutput, registry
from remind.fusion.layers import Attention, modality_means
from remind.fusion.sparse import LaplaceGate, Routing, SparseMoE, SparseOptions, balance_loss


class FuseMoEOptions(SparseOptions):
    """The paper's settings."""

    top_k: Count = Field(2, description="experts kept per token")
    expansion: Count = Field(4, description="hidden width of an expert, in units of D")


@registry.register(
    "fusemoe",
    title="sparse experts with one Laplace gate per modality; learned indicators for missing modalities",
    paper="Han et al., NeurIPS 2024, arXiv 2402.03226",
    year=2024,
    options=FuseMoEOptions,
)
class FuseMoE(FusionModel):
    """One layer; no parameter belongs to a group."""

    def __init__(self, context: Context, options: FuseMoEOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, len(context.modalities)
        self.auxiliary = options.auxiliary
        self.indicator_mD = nn.Parameter(torch.randn(modalities, width) * 0.02)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, context.heads)
        self.moe_norm = nn.LayerNorm(width)
        self.gates = nn.ModuleList(LaplaceGate(width, options.experts, options.top_k) for _ in range(modalities))
        self.moe = SparseMoE(options.experts, width, options.expansion * width)
        self.dropout = nn.Dropout(context.dropout)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(modalities * width, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        filled = [
            torch.where(presence_Bm[:, i, None, None], z_BlD, self.indicator_mD[i]) for i, z_BlD in enumerate(tokens)
        ]
        z_BMD = torch.cat(filled, dim=1)
        z_BMD = z_BMD + self.dropout(self.attention(self.attention_norm(z_BMD)))
        x_BMD = self.moe_norm(z_BMD)
        weight_BME, load_BME = self._route(x_BMD)
        weight_NE = weight_BME.flatten(0, 1)
        z_BMD = z_BMD + self.dropout(self.moe(x_BMD.flatten(0, 1), weight_NE).view_as(z_BMD))
        means_BmD = modality_means(torch.split(self.norm(z_BMD), list(self.context.tokens), dim=1))
        output = FusionOutput(self.head(means_BmD.flatten(1)), use_BE=weight_BME.detach().mean(dim=1))
        if not self.training:
            return output
        balance = self.auxiliary * balance_loss(weight_NE, load_BME.flatten(0, 1))
        return replace(output, auxiliary_B=balance.expand(len(group_B)))

    def _route(self, x_BMD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights and loads of all tokens, (B, M, E) each; each modality has its own gate."""
        weights, loads = [], []
        for gate, x_BlD in zip(self.gates, torch.split(x_BMD, list(self.context.tokens), dim=1), strict=True):
            routed: Routing = gate(x_BlD.flatten(0, 1))
            weights.append(routed.weight_NE.view(*x_BlD.shape[:2], -1))
            loads.append(routed.load_NE.view(*x_BlD.shape[:2], -1))
        return torch.cat(weights, dim=1), torch.cat(loads, dim=1)
