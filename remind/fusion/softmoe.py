"""Soft MoE: REMIND without Φ_k and without GroupDRO ("Trans" in the paper's Tables 1–3; docs/methods-fusion.md).

    Z_i = B_k where modality i is missing;  Z ← Z + MHA(LN Z);  Z ← Z + SoftMoE(LN Z);  head on the mean of LN Z

It is REMIND's code and settings with shared routing, so that the two differ only in Φ_k. GroupDRO belongs to the
objective, not to the model. Shapes as in `fusion.remind`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from remind.fusion.base import Context, FusionModel, FusionOptions, FusionOutput, registry
from remind.fusion.block import RemindBlock
from remind.fusion.remind import MISSING_STD, fill_missing
from remind.privacy.tape import gather_rows


class MissingEmbedding(nn.Module):
    """B_k, which replaces every token that a patient of group k lacks."""

    taped = frozenset({"missing_D"})
    missing_D: nn.Parameter

    def __init__(self, width: int) -> None:
        super().__init__()
        self.missing_D = nn.Parameter(torch.randn(width) * MISSING_STD)


@registry.register(
    "softmoe",
    title="REMIND without group routing: one shared router; settings in [model]",
    paper="Puigcerver et al., ICLR 2024, arXiv 2308.00951; 'Trans' in Wu et al., arXiv 2603.00046",
    year=2024,
    options=FusionOptions,
)
class SoftMoEFusion(FusionModel):
    """REMIND with shared routing in both stages. The only parameter of a group is B_k; the full group has none."""

    private = True

    def __init__(self, context: Context, options: FusionOptions) -> None:
        super().__init__(context, options)
        self.dropout = nn.Dropout(context.dropout)
        self.blocks = nn.ModuleList(RemindBlock(context.model) for _ in range(context.model.blocks))
        self.norm = nn.LayerNorm(context.width)
        self.head = nn.Linear(context.width, context.classes)

    def new_group(self, group: int) -> nn.Module | None:
        """Return B_k ~ N(0, .02²)."""
        return None if group == self.context.full else MissingEmbedding(self.context.width)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        groups, row_B = self.groups.in_batch(group_B)
        zero_D = torch.zeros_like(self.norm.weight)
        missing_GD = self.groups.stacked(groups, lambda own: own.missing_D, zero_D)
        owners = [self.groups[str(k)].get_parameter("missing_D") if str(k) in self.groups else None for k in groups]
        missing_BD = gather_rows(missing_GD, row_B, owners)
        z_BMD = self.dropout(fill_missing(tokens, presence_Bm, missing_BD))
        use_LBE = []
        for block in self.blocks:
            z_BMD, _, use_BE = block(z_BMD)
            use_LBE.append(use_BE)
        logits_BC = self.head(self.norm(z_BMD).mean(dim=1))
        return FusionOutput(logits_BC, use_BE=torch.stack(use_LBE).mean(dim=0))
