"""The REMIND model (REMIND.md §2): missing-modality embeddings, blocks with group residual routing, a linear head.

Shapes: B patients, M tokens in all, D width, L blocks, E experts, S slots per expert, C classes, m modalities.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from remind.config import ModelConfig
from remind.fusion.block import RemindBlock
from remind.seeds import derive, seeded

MISSING_STD = 0.02  # initial spread of B_k (§4.11)


@dataclass(frozen=True)
class FusionOutput:
    """Class logits (B, C), and the share of blocks in which each patient's Φ_k was used, (B,)."""

    logits_BC: Tensor
    open_B: Tensor

    def cast(self, dtype: torch.dtype) -> "FusionOutput":
        """The same in another type, as after autocast."""
        return FusionOutput(self.logits_BC.to(dtype), self.open_B.to(dtype))


class GroupParameters(nn.Module):
    """What one group has of its own: its router residual in every block, and its missing-modality embedding."""

    def __init__(self, config: ModelConfig, missing_D: Tensor) -> None:
        super().__init__()
        self.residual_LDES = nn.Parameter(torch.zeros(config.blocks, config.width, config.experts, config.slots))
        self.missing_D = nn.Parameter(missing_D)


class Remind(nn.Module):
    """Tokens of each modality → class logits. Groups come into being by `add_groups`; nothing is sized 2^m.

    Parameters whose name begins with ``groups.<bitmask>.`` belong to that group; all others are shared.
    """

    def __init__(self, config: ModelConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(RemindBlock(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, classes)
        self.groups = nn.ModuleDict()

    def add_groups(self, groups: Iterable[int], seed: int) -> None:
        """Give each group that is new its Φ_k = 0 and its B_k ~ N(0, .02²), whatever order groups come in."""
        like = self.norm.weight
        for group in groups:
            if str(group) not in self.groups:
                with seeded(derive(seed, "group", group)):
                    missing_D = torch.randn(self.config.width) * MISSING_STD
                self.groups[str(group)] = GroupParameters(self.config, missing_D).to(like.device, like.dtype)

    def keep_groups(self, groups: Collection[int], seed: int) -> None:
        """Know exactly these groups: add the new, drop the others."""
        for key in [key for key in self.groups if int(key) not in groups]:
            del self.groups[key]
        self.add_groups(sorted(groups), seed)

    def known_groups(self) -> tuple[int, ...]:
        """Groups with parameters of their own, ascending."""
        return tuple(sorted(int(key) for key in self.groups))

    def forward(
        self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool = True
    ) -> FusionOutput:
        """Logits of B patients.

        Parameters
        ----------
        tokens
            One (B, l_i, D) tensor per modality; rows of patients without the modality are ignored.
        presence_Bm
            Which modalities each patient has, bool.
        group_B
            Group of each patient. A group never seen in training uses Φ_k = 0 and the mean of the known B (§4.10).
        routing
            False in stage 1, where Φ_k is held at 0: shared routing only.
        """
        present, row_B = torch.unique(group_B, return_inverse=True)
        own = [self._own(group) for group in present.tolist()]
        missing_BD = torch.stack([missing_D for _, missing_D in own])[row_B]
        z_BMD = self.dropout(self._fill(tokens, presence_Bm, missing_BD))
        open_LB = []
        for level, block in enumerate(self.blocks):
            residual_GDES = torch.stack([residual_LDES[level] for residual_LDES, _ in own]) if routing else None
            z_BMD, open_B = block(z_BMD, residual_GDES, row_B)
            open_LB.append(open_B)
        logits_BC = self.head(self.norm(z_BMD).mean(dim=1))
        return FusionOutput(logits_BC, torch.stack(open_LB).to(logits_BC.dtype).mean(dim=0))

    def _own(self, group: int) -> tuple[Tensor, Tensor]:
        """Φ_k (L, D, E, S) and B_k (D,) of a group, known or not."""
        if str(group) in self.groups:
            parameters = self.groups[str(group)]
            return parameters.residual_LDES, parameters.missing_D  # type: ignore[return-value]
        like = self.norm.weight
        zero = like.new_zeros(self.config.blocks, self.config.width, self.config.experts, self.config.slots)
        known = [p.missing_D for p in self.groups.values()]
        return zero, torch.stack(known).mean(dim=0) if known else like.new_zeros(self.config.width)  # type: ignore[arg-type]

    @staticmethod
    def _fill(tokens: Sequence[Tensor], presence_Bm: Tensor, missing_BD: Tensor) -> Tensor:
        """All tokens of each patient, (B, M, D), with B_k where a modality is missing (§2.1)."""
        filled = [
            torch.where(presence_Bm[:, i, None, None], z_BlD, missing_BD.unsqueeze(1)) for i, z_BlD in enumerate(tokens)
        ]
        return torch.cat(filled, dim=1)


def build_fusion(config: ModelConfig, classes: int, seed: int) -> Remind:
    """A freshly initialised model without groups; equal seeds give equal models."""
    with seeded(derive(seed, "fusion")):
        return Remind(config, classes)
