"""MoE-Retriever (Yun et al., "Sparse MoE as a New Retriever", 2025): experts compute a missing modality's tokens.

For a patient with modalities mc, and each missing modality T:

    intra = T tokens of |mc| other patients drawn from {S ⊇ mc, T ∈ S};  inter = the patient's own tokens
    C = [intra; inter];  C ← C + MHA(LN C);  w = softmax over the 8 experts of T and 4 shared ones of the gate's scores
    R = Σ_{e ∈ top 4} w_e·expert_e(LN C)    (Eq. 1: the largest of the softmax, not a softmax of the largest)
    Z_T = ½·mean over the supporting patients of R_intra + ½·mean over the modalities of the means of R_inter

One transformer layer over all of Z follows, and a head on the concatenated means of the modalities' blocks.

Encoders train together with the retrieval, as in the paper: in stage 1 the patients of a step support each other, with
gradient to their encoders. In stage 2 encoders are frozen, and the support is all training patients of the site. With
``end-to-end = false`` all of stage 1 is the paper's warm-up, without retrieval: Z_T = 0.

Differences: the supporting patients are training patients of the same site only (`support`); without support for T, the
shared experts receive only the patient's own tokens, so that Z_T is one vector repeated. The retrieved tokens are the
routed output; the released code discards this output and returns the ½ : ½ mean of its inputs, and its attention is
within one patient and modality. The paper has no gate noise and no balance loss; the released code has a balance loss
(`auxiliary = 0.01`). A patient whose modality is hidden in training never retrieves its own tokens of this modality.
Outside training all patients of a group have the same supporting patients, so that predictions can be repeated.

Shapes: B patients in the batch, P of them in one group, n supporting patients each, k excluded patients each,
m modalities, L tokens of a context, l tokens of T, M tokens in all, N tokens at a gate, D width, E experts.
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
from remind.fusion.sparse import SparseMoE, cv_squared
from remind.fusion.support import StepSupport, Support, TokenPool
from remind.groups import members


class MoERetrieverOptions(FusionOptions):
    """The numbers of experts are the paper's. The paper does not state widths, sample size and factor."""

    own_experts: Count = Field(8, description="|E_T|, experts of each modality")
    shared_experts: Count = Field(4, description="experts of all modalities")
    top_k: Count = Field(4, description="experts kept per token")
    end_to_end: bool = Field(True, description="retrieve in stage 1 too, among the patients of a step, with gradient")
    auxiliary: NonNegative = Field(0.0, description="factor of a balance loss, CV² of the experts' weights")
    expansion: Count = Field(2, description="hidden width of experts and of the fusion layer, in units of D")
    reference: Count = Field(256, description="training patients who support outside training in stage 1, at most")

    @model_validator(mode="after")
    def _keeps_at_most_the_shared(self) -> Self:
        if self.top_k > self.shared_experts:  # without support, a token can use only these
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
    """Retrieval, then one transformer layer. No parameter belongs to a group."""

    compares = 256  # the options replace it
    not_exported = "it retrieves the tokens of a hospital's training patients, which do not leave the hospital"

    def __init__(self, context: Context, options: MoERetrieverOptions) -> None:
        super().__init__(context, options)
        width, modalities = context.width, len(context.modalities)
        hidden = options.expansion * width
        self.own_experts, self.auxiliary, self.top_k = options.own_experts, options.auxiliary, options.top_k
        self.end_to_end, self.compares = options.end_to_end, options.reference if options.end_to_end else 0
        self.experts = modalities * options.own_experts + options.shared_experts
        self.context_norm = nn.LayerNorm(width)
        self.context_attention = Attention(width, context.heads)
        self.moe_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, self.experts, bias=False)
        self.moe = SparseMoE(self.experts, width, hidden)
        self.dropout = nn.Dropout(context.dropout)
        self.position_MD = nn.Parameter(torch.zeros(sum(context.tokens), width))
        self.layer = TransformerLayer(width, context.heads, hidden, context.dropout)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(modalities * width, context.classes)
        self._support: Support | None = None
        self._asking_B: Tensor | None = None

    @override
    def set_support(self, support: Support | None) -> None:
        """Receive the training patients of this site; None: there is no support."""
        self._support = support

    @override
    def set_step_patients(self, index_B: Tensor | None) -> None:
        self._asking_B = index_B

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        filled, use_BE, balance = list(tokens), None, None
        if routing or self.end_to_end:
            filled, use_BE, balance = self._retrieve(tokens, presence_Bm, routing)
        z_BMD = self.layer(torch.cat(filled, dim=1) + self.position_MD)
        means_BmD = modality_means(torch.split(self.norm(z_BMD), list(self.context.tokens), dim=1))
        logits_BC = self.head(means_BmD.flatten(1))
        return FusionOutput(logits_BC, None, balance if self.training else None, use_BE)

    def _retrieve(
        self, tokens: Sequence[Tensor], presence_Bm: Tensor, routing: bool
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return all tokens with the retrieved ones, the use of experts (B, E), and the balance loss (B,)."""
        group_B = group_of(presence_Bm)
        among_step = self.training and not routing
        support = StepSupport(tokens, presence_Bm) if among_step else self._support
        barred_Bk = self._barred(len(group_B), among_step, group_B.device)
        filled = list(tokens)
        use_BE = tokens[0].new_zeros(len(group_B), self.experts)
        losses = []
        for group in torch.unique(group_B).tolist():
            row_P = (group_B == group).nonzero().squeeze(1)
            own = [tokens[i][row_P] for i in members(group)]
            lacks = members(self.context.full & ~group)
            for missing in lacks:
                intra_PnlD = own[0].new_empty(len(row_P), 0, self.context.tokens[missing], self.context.width)
                if support is not None:
                    barred_Pk = None if barred_Bk is None else barred_Bk[row_P]
                    drawn = support.draw(group, missing, len(row_P), not self.training, barred_Pk)
                    intra_PnlD = drawn if among_step else self.of_others(missing, drawn.to(own[0]))
                retrieved_PlD, weight_PLE, allowed_E = self._retrieve_one(own, intra_PnlD, missing)
                filled[missing] = filled[missing].index_copy(0, row_P, retrieved_PlD.to(filled[missing].dtype))
                use_PE = weight_PLE.detach().mean(dim=1)
                use_PE = use_PE / use_PE.sum(dim=1, keepdim=True)
                use_BE = use_BE.index_add(0, row_P, use_PE.to(use_BE.dtype) / len(lacks))
                losses.append(cv_squared(weight_PLE.sum(dim=(0, 1))[allowed_E]))
        loss = torch.stack(losses).mean() if losses else tokens[0].new_zeros(())
        return filled, use_BE, (self.auxiliary * loss).expand(len(group_B))

    def _barred(self, patients: int, among_step: bool, device: torch.device) -> Tensor | None:
        """Return the rows of the support that each patient must not retrieve in training, (B, k): its own row.

        If an objective has mixed the patients of the step, all of them are excluded for every patient.
        """
        if among_step:
            return torch.arange(patients, device=device).unsqueeze(1)
        if not self.training or self._asking_B is None or not isinstance(self._support, TokenPool):
            return None
        row_B = self._support.rows(self._asking_B)
        return row_B.unsqueeze(1) if len(row_B) == patients else row_B.expand(patients, -1)

    def _retrieve_one(self, own: Sequence[Tensor], intra_PnlD: Tensor, missing: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens of `missing` for P patients of one group with tokens `own`, (P, l, D).

        Also return the weights of the experts (P, L, E), and which experts are allowed (E,).
        """
        supporters, length = intra_PnlD.shape[1:3]
        c_PLD = torch.cat([intra_PnlD.flatten(1, 2), *own], dim=1)
        c_PLD = c_PLD + self.dropout(self.context_attention(self.context_norm(c_PLD)))
        x_ND = self.moe_norm(c_PLD).flatten(0, 1)
        allowed_E = self._allowed(missing, supporters > 0, c_PLD.device)
        share_NE = self.gate(x_ND).masked_fill(~allowed_E, -torch.inf).softmax(dim=1)
        kept_NE = torch.zeros_like(share_NE).scatter(1, share_NE.topk(self.top_k, dim=1).indices, 1.0)
        weight_NE = share_NE * kept_NE
        r_PLD = self.moe(x_ND, weight_NE).view_as(c_PLD)
        inter = r_PLD[:, supporters * length :].split([z_PlD.shape[1] for z_PlD in own], dim=1)
        inter_P1D = modality_means(inter).mean(dim=1, keepdim=True)
        weight_PLE = weight_NE.view(*c_PLD.shape[:2], self.experts)
        if not supporters:
            return inter_P1D.expand(-1, length, -1), weight_PLE, allowed_E
        intra_PlD = r_PLD[:, : supporters * length].unflatten(1, (supporters, length)).mean(dim=1)
        return (intra_PlD + inter_P1D) / 2, weight_PLE, allowed_E

    def _allowed(self, missing: int, supported: bool, device: torch.device) -> Tensor:
        """Return the experts allowed for modality T, (E,) bool: the shared ones, and its own if it has support."""
        modality_E = torch.arange(self.experts, device=device) // self.own_experts
        shared_E = torch.arange(self.experts, device=device) >= len(self.context.modalities) * self.own_experts
        return shared_E | (modality_E == missing) if supported else shared_E
