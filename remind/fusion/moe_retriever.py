"""MoE-Retriever (Yun et al., "Sparse MoE as a New Retriever", 2025): a missing modality's tokens come out of experts.

For a patient with modalities mc, and each missing T:

    intra = T tokens of |mc| other patients drawn from {S ⊇ mc, T ∈ S};  inter = the patient's own tokens
    C = [intra; inter];  C ← C + MHA(LN C);  R = Σ_{e ∈ top 4} softmax(g)_e · expert_e(LN C),  e ∈ 8 of T and 4 shared
    Z_T = ½·mean over the supporting patients of R_intra + ½·mean over the modalities of the means of R_inter

then one transformer layer over all of Z and a head on the concatenated means of the modalities' blocks. Stage 1 is the
paper's warm-up, without retrieval: Z_T = 0.

What we do differently: the support pool is training patients of the same site only (`support`); where nobody supports
T, the shared experts work on the patient's own tokens alone, so that Z_T is one vector repeated. The routed output is
what is retrieved; the released forward throws it away and returns the ½ : ½ mean of its inputs, and its attention does
not cross from one patient or modality to another. The router's balance loss counts, with the released factor. Outside
training the supporting patients of a group are the same for everyone who asks, so that predictions can be repeated.

Shapes: B patients in the batch, P of them in one group, n supporting patients each, m modalities, L tokens of a
context, l tokens of T, M tokens in all, N tokens at a gate, D width, E experts.
"""

from collections.abc import Sequence
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import override

from remind.config import Count, NonNegative
from remind.fusion.base import Context, FusionModel, FusionOptions, FusionOutput, group_of, registry
from remind.fusion.layers import Attention, TransformerLayer, modality_means
from remind.fusion.sparse import LinearGate, Routing, SparseMoE, balance_loss
from remind.fusion.support import Support
from remind.groups import members


class MoERetrieverOptions(FusionOptions):
    """The paper's settings."""

    own_experts: Count = Field(8, description="|E_T|, experts of each modality")
    shared_experts: Count = Field(4, description="experts of all modalities")
    top_k: Count = Field(4, description="experts kept per token")
    auxiliary: NonNegative = Field(0.01, description="factor of the balance loss")
    expansion: Count = Field(2, description="hidden width of experts and of the fusion layer, in units of D")

    @model_validator(mode="after")
    def _keeps_at_most_the_shared(self) -> Self:
        if self.top_k > self.shared_experts:  # without support, those are all a token may use
            raise ValueError(f"top_k {self.top_k} is more than the {self.shared_experts} shared experts")
        return self


@registry.register(
    "moe_retriever",
    title="sparse experts retrieve missing modalities from the site's other patients and from the patient's own tokens",
    paper="Yun et al., Sparse MoE as a New Retriever, 2025, openreview j9DbobO0mY",
    year=2025,
    options=MoERetrieverOptions,
)
class MoERetriever(FusionModel):
    """Retrieval in stage 2, then one transformer layer. Nothing belongs to a group."""

    not_exported = "it retrieves the tokens of a hospital's training patients, which do not leave the hospital"

    def __init__(self, context: Context, options: MoERetrieverOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, len(context.modalities)
        hidden = options.expansion * width
        self.own_experts, self.auxiliary = options.own_experts, options.auxiliary
        self.experts = modalities * options.own_experts + options.shared_experts
        self.context_norm = nn.LayerNorm(width)
        self.context_attention = Attention(width, context.heads)
        self.moe_norm = nn.LayerNorm(width)
        self.gate = LinearGate(width, self.experts, options.top_k)
        self.moe = SparseMoE(self.experts, width, hidden)
        self.dropout = nn.Dropout(context.dropout)
        self.position_MD = nn.Parameter(torch.zeros(sum(context.tokens), width))
        self.layer = TransformerLayer(width, context.heads, hidden, context.dropout)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(modalities * width, context.classes)
        self._support: Support | None = None

    def set_support(self, support: Support | None) -> None:
        """Training patients of this site; None: nobody supports anybody."""
        self._support = support

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        filled, use_BE, balance = list(tokens), None, None
        if routing:
            filled, use_BE, balance = self._retrieve(tokens, presence_Bm)
        z_BMD = self.layer(torch.cat(filled, dim=1) + self.position_MD)
        means_BmD = modality_means(torch.split(self.norm(z_BMD), list(self.context.tokens), dim=1))
        logits_BC = self.head(means_BmD.flatten(1))
        return FusionOutput(logits_BC, None, balance if self.training else None, use_BE)

    def _retrieve(self, tokens: Sequence[Tensor], presence_Bm: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Tokens with the retrieved ones in place, use of experts (B, E), and the balance loss (B,)."""
        group_B = group_of(presence_Bm)
        filled = list(tokens)
        use_BE = tokens[0].new_zeros(len(group_B), self.experts)
        losses = []
        for group in torch.unique(group_B).tolist():
            row_P = (group_B == group).nonzero().squeeze(1)
            lacks = members(self.context.full & ~group)
            for missing in lacks:
                retrieved_PlD, routed, allowed_E = self._retrieve_one(tokens, row_P, group, missing)
                filled[missing] = filled[missing].index_copy(0, row_P, retrieved_PlD.to(filled[missing].dtype))
                use_PE = routed.weight_NE.detach().view(len(row_P), -1, self.experts).mean(dim=1)
                use_BE = use_BE.index_add(0, row_P, use_PE.to(use_BE.dtype) / len(lacks))
                losses.append(balance_loss(routed.weight_NE[:, allowed_E], routed.load_NE[:, allowed_E]))
        loss = torch.stack(losses).mean() if losses else tokens[0].new_zeros(())
        return filled, use_BE, (self.auxiliary * loss).expand(len(group_B))

    def _retrieve_one(
        self, tokens: Sequence[Tensor], row_P: Tensor, group: int, missing: int
    ) -> tuple[Tensor, Routing, Tensor]:
        """Tokens of `missing` for the patients `row_P`, who all have `group`, (P, l, D), and how they were routed."""
        own = [tokens[i][row_P] for i in members(group)]
        length = self.context.tokens[missing]
        intra_PnlD = own[0].new_empty(len(row_P), 0, length, self.context.width)
        if self._support is not None:
            intra_PnlD = self._support.draw(group, missing, len(row_P), fixed=not self.training).to(own[0])
        supporters = intra_PnlD.shape[1]
        c_PLD = torch.cat([intra_PnlD.flatten(1, 2), *own], dim=1)
        c_PLD = c_PLD + self.dropout(self.context_attention(self.context_norm(c_PLD)))
        x_ND = self.moe_norm(c_PLD).flatten(0, 1)
        allowed_E = self._allowed(missing, supporters > 0, row_P.device)
        routed: Routing = self.gate(x_ND, allowed_E)
        r_PLD = self.moe(x_ND, routed.weight_NE).view(len(row_P), c_PLD.shape[1], -1)
        inter = r_PLD[:, supporters * length :].split([z_PlD.shape[1] for z_PlD in own], dim=1)
        inter_P1D = modality_means(inter).mean(dim=1, keepdim=True)
        if not supporters:
            return inter_P1D.expand(-1, length, -1), routed, allowed_E
        intra_PlD = r_PLD[:, : supporters * length].unflatten(1, (supporters, length)).mean(dim=1)
        return (intra_PlD + inter_P1D) / 2, routed, allowed_E

    def _allowed(self, missing: int, supported: bool, device: torch.device) -> Tensor:
        """Experts that may make up modality T, (E,) bool: its own, if anybody supports it, and the shared ones."""
        modality_E = torch.arange(self.experts, device=device) // self.own_experts
        shared_E = torch.arange(self.experts, device=device) >= len(self.context.modalities) * self.own_experts
        return shared_E | (modality_E == missing) if supported else shared_E
