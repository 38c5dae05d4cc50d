"""Flex-MoE (Yun et al., NeurIPS 2024, arXiv 2410.08245): a missing-modality bank, a gate trained by group.

    Z_i = bank_{k,i} where modality i of group k is missing;  Z ← Z + MHA(LN(Z + position))
    Z ← Z + Σ_{e ∈ top 4} softmax(g)_e · expert_e(LN Z),  g = LN(Z) W + N(0, (softplus(LN(Z) W') + .01)²)
    head on the concatenated means of the modalities' blocks
    loss + .01·(CV²(importance) + CV²(load) + CE(g, e_k) of incomplete patients),  e_k the expert of the patient's group

Stage 1 is the paper's warm-up: patients with all modalities, no CE (its G-router). Stage 2 adds the CE (its S-router).
Differences: attention keeps the residual stream (the released layer adds its output to itself); groups map to experts
for any m, while the release needs 2^m − 1 ≤ E; the bank has rows only for modalities that a group lacks; there is one
balance loss, over all tokens of the batch; the CE uses the scores without noise.

Shapes: B patients, G groups, m modalities, l_i tokens of modality i, M tokens in all, N = B·M, D width, E experts.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import Count
from remind.fusion.base import Context, FusionModel, FusionOutput, registry
from remind.fusion.layers import Attention, modality_means
from remind.fusion.sparse import LinearGate, Routing, SparseMoE, SparseOptions, balance_loss
from remind.groups import members
from remind.seeds import derive

FREE = 0  # the expert that belongs to no group


class FlexMoEOptions(SparseOptions):
    """The paper's settings. The paper has 4 heads; here the run sets their number."""

    experts: Annotated[int, Field(ge=2)] = Field(16, description="E; the first belongs to no group")
    expansion: Count = Field(2, description="hidden width of an expert, in units of D")


class MissingBank(nn.Module):
    """Learned tokens of a group for each modality that it lacks, by the position of the modality."""

    def __init__(self, group: int, context: Context) -> None:
        super().__init__()
        lacks = members(context.full & ~group)
        self.tokens = nn.ParameterDict(
            {str(i): nn.Parameter(torch.randn(context.tokens[i], context.width)) for i in lacks}
        )


@registry.register(
    "flexmoe",
    title="missing-modality bank per group, sparse experts, gate trained towards the group's expert",
    paper="Yun et al., NeurIPS 2024, arXiv 2410.08245",
    year=2024,
    options=FlexMoEOptions,
)
class FlexMoE(FusionModel):
    """One layer. A group's own parameters are its rows of the bank; the group with all modalities has none."""

    def __init__(self, context: Context, options: FlexMoEOptions) -> None:
        super().__init__(context, options)
        width = context.width
        self.experts, self.auxiliary = options.experts, options.auxiliary
        self.position_MD = nn.Parameter(torch.zeros(sum(context.tokens), width))
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, context.heads)
        self.moe_norm = nn.LayerNorm(width)
        self.gate = LinearGate(width, options.experts, options.top_k)
        self.moe = SparseMoE(options.experts, width, options.expansion * width)
        self.dropout = nn.Dropout(context.dropout)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(len(context.modalities) * width, context.classes)

    def new_group(self, group: int) -> nn.Module | None:
        """Return rows of the bank ~ N(0, 1)."""
        return None if group == self.context.full else MissingBank(group, self.context)

    def trains_on(self, presence_Nm: Tensor, routing: bool) -> Tensor:
        """Select in stage 1 the patients with the most modalities at the site: complete patients, if there are any."""
        if routing or not len(presence_Nm):
            return super().trains_on(presence_Nm, routing)
        number_N = presence_Nm.sum(dim=1)
        return number_N == number_N.max()

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        """Return the output for B patients; the stages differ only in the auxiliary loss."""
        z_BMD = torch.cat(self._fill(tokens, presence_Bm, group_B), dim=1) + self.position_MD
        z_BMD = z_BMD + self.dropout(self.attention(self.attention_norm(z_BMD)))
        x_ND = self.moe_norm(z_BMD).flatten(0, 1)
        routed: Routing = self.gate(x_ND)
        z_BMD = z_BMD + self.dropout(self.moe(x_ND, routed.weight_NE).view_as(z_BMD))
        means_BmD = modality_means(torch.split(self.norm(z_BMD), list(self.context.tokens), dim=1))
        return FusionOutput(
            self.head(means_BmD.flatten(1)),
            auxiliary_B=self._auxiliary(routed, group_B, routing) if self.training else None,
            use_BE=routed.weight_NE.detach().view(group_B.shape[0], -1, self.experts).mean(dim=1),
        )

    def _fill(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor) -> list[Tensor]:
        """Replace missing modalities with rows of the bank; of an unseen group, with means of known groups' rows."""
        groups, row_B = self.groups.in_batch(group_B)
        filled = []
        for i, z_BlD in enumerate(tokens):
            bank_BlD = self._bank(i, groups)[row_B]
            filled.append(torch.where(presence_Bm[:, i, None, None], z_BlD, bank_BlD))
        return filled

    def _bank(self, modality: int, groups: list[int]) -> Tensor:
        """Return the bank's rows of a modality for each group, (G, l, D)."""
        zero_lD = self.position_MD.new_zeros(self.context.tokens[modality], self.context.width)
        return self.groups.stacked(groups, lambda own: own.tokens.get(str(modality)), zero_lD)

    def _auxiliary(self, routed: Routing, group_B: Tensor, routing: bool) -> Tensor:
        """Return the auxiliary loss of each patient, (B,): a common balance loss plus the patient's cross-entropy."""
        balance = balance_loss(routed.weight_NE, routed.load_NE)
        if not routing:
            return (self.auxiliary * balance).expand(len(group_B))
        present, row_B = torch.unique(group_B, return_inverse=True)
        expert_G = [expert_of(group, self.context.full, self.experts) for group in present.tolist()]
        target_B = torch.tensor(expert_G, device=group_B.device)[row_B]
        score_BME = routed.score_NE.view(len(group_B), -1, self.experts)
        target_BM = target_B.unsqueeze(1).expand(score_BME.shape[:2])
        ce_B = functional.cross_entropy(score_BME.transpose(1, 2), target_BM, reduction="none").mean(dim=1)
        return self.auxiliary * (balance + torch.where(target_B == FREE, 0.0, ce_B))


def expert_of(group: int, full: int, experts: int) -> int:
    """Return the target expert of a group's tokens, 1 … E − 1; FREE for the full group, which has no target.

    Groups with a bitmask below E have one expert each, as in the paper. Others are hashed to 1 … E − 1, which gives the
    same result at every site.
    """
    if group == full:
        return FREE
    return group if group < experts else 1 + derive(0, "expert", group) % (experts - 1)
