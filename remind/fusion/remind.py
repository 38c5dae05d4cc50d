"""The REMIND model (REMIND.md §2): missing-modality embeddings, blocks with group residual routing, a linear head.

Shapes: B patients, M tokens in all, D width, L blocks, E experts, S slots per expert, C classes, m modalities.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from remind.config import ModelConfig
from remind.fusion.base import Context, FusionModel, FusionOutput, Options, registry
from remind.fusion.block import RemindBlock

MISSING_STD = 0.02  # initial spread of B_k (§4.11)


class GroupParameters(nn.Module):
    """What one group has of its own: its router residual in every block, and its missing-modality embedding.

    The group that has every modality needs no embedding and has none: it would never train, yet enter the mean that
    unseen groups are given.
    """

    missing_D: nn.Parameter | None

    def __init__(self, config: ModelConfig, missing_D: Tensor | None) -> None:
        super().__init__()
        self.residual_LDES = nn.Parameter(torch.zeros(config.blocks, config.width, config.experts, config.slots))
        self.register_parameter("missing_D", None if missing_D is None else nn.Parameter(missing_D))


@registry.register(
    "remind",
    title="Soft mixture of experts whose router has a small residual per group; settings in [model]",
    paper="Wu et al., REMIND, arXiv 2603.00046",
    year=2026,
    options=Options,
)
class Remind(FusionModel):
    """Tokens of each modality → class logits. Groups come into being by `add_groups`; nothing is sized 2^m.

    Stage 1 (`routing` False) holds Φ_k at 0. A group never seen in training uses Φ_k = 0 and the mean of the known B
    (§4.10).
    """

    def __init__(self, context: Context, options: Options) -> None:
        super().__init__(context, options)
        self.config = config = context.model
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(RemindBlock(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, context.classes)

    def new_group(self, group: int) -> nn.Module:
        """Φ_k = 0 and B_k ~ N(0, .02²)."""
        missing_D = torch.randn(self.config.width) * MISSING_STD
        return GroupParameters(self.config, None if group == self.context.full else missing_D)

    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        """See `FusionModel`."""
        present, row_B = torch.unique(group_B, return_inverse=True)
        groups = present.tolist()
        missing_BD = self.of_groups(groups, lambda own: own.missing_D, torch.zeros_like(self.norm.weight))[row_B]
        z_BMD = self.dropout(fill_missing(tokens, presence_Bm, missing_BD))
        residual_GLDES = self._residuals(groups) if routing else None
        open_LB, use_LBE = [], []
        for level, block in enumerate(self.blocks):
            own_GDES = None if residual_GLDES is None else residual_GLDES[:, level]
            z_BMD, open_B, use_BE = block(z_BMD, own_GDES, row_B)
            open_LB.append(open_B)
            use_LBE.append(use_BE)
        logits_BC = self.head(self.norm(z_BMD).mean(dim=1))
        return FusionOutput(
            logits_BC, torch.stack(open_LB).to(logits_BC.dtype).mean(dim=0), use_BE=torch.stack(use_LBE).mean(dim=0)
        )

    def _residuals(self, groups: Sequence[int]) -> Tensor:
        """Φ_k of each group, 0 for one that is not known, (G, L, D, E, S)."""
        config, like = self.config, self.norm.weight
        zero = like.new_zeros(config.blocks, config.width, config.experts, config.slots)
        own = [self.groups[str(k)].residual_LDES if str(k) in self.groups else zero for k in groups]
        return torch.stack(own)  # type: ignore[arg-type]


def fill_missing(tokens: Sequence[Tensor], presence_Bm: Tensor, missing_BD: Tensor) -> Tensor:
    """All tokens of each patient, (B, M, D), with B_k where a modality is missing (§2.1)."""
    missing_B1D = missing_BD.unsqueeze(1)
    filled = [torch.where(presence_Bm[:, i, None, None], z_BlD, missing_B1D) for i, z_BlD in enumerate(tokens)]
    return torch.cat(filled, dim=1)
