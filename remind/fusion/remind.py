"""The REMIND model (algorithm §2): missing-modality embeddings, blocks with group residual routing, a linear head.

Shapes: B patients, M tokens in all, D width, L blocks, E experts, S slots per expert, C classes, m modalities.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import override

from remind.config import ModelConfig
from remind.fusion.base import Context, FusionModel, FusionOptions, FusionOutput, registry
from remind.fusion.block import RemindBlock
from remind.fusion.tracing import traced
from remind.privacy.tape import current_tape, gather_rows

MISSING_STD = 0.02  # initial standard deviation of B_k (algorithm §4.11)
SINE_SHARE = 0.1  # initial size of a sinusoidal Φ_k relative to Φ_shared: small, to keep the routing of stage 1


class RemindOptions(FusionOptions):
    """The variants of the paper's Table 16, and options by which rare groups share parameters with others."""

    missing: Literal["learned", "zero"] = Field(
        "learned", description="B_k in place of an absent modality; zero: held at 0, and no parameter"
    )
    residual: Literal["zeros", "sine"] = Field(
        "zeros", description="initial Φ_k; sine: waves that differ in phase from group to group"
    )
    compose: bool = Field(
        False,
        description="Φ_k = Σ U_i + Δ_k, B_k = Σ b_i + β_k over the group's modalities; all groups share U, b",
    )
    rank: Annotated[int, Field(ge=0)] = Field(
        0, description="the group's own part of the router has at most this rank; 0: any, as in the paper"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.residual == "sine" and (self.compose or self.rank):
            raise ValueError("residual = 'sine' goes with compose = false and rank = 0 only: waves have no parts")
        if self.compose and self.missing == "zero":
            raise ValueError("compose = true needs missing = 'learned': there is no B to compose")
        return self


class GroupParameters(nn.Module):
    """The parameters of one group: its router residual in every block, and its missing-modality embedding.

    The group with every modality has no embedding: it would never train, but would enter the mean that unseen groups
    receive. With a rank r the residual is the product of (L, D, r) and (L, r, E·S); the second factor is initially 0.
    """

    taped = frozenset({"residual_LDES", "missing_D"})
    missing_D: nn.Parameter | None

    def __init__(self, residual_LDES: Tensor, missing_D: Tensor | None, rank: int = 0) -> None:
        super().__init__()
        self.shape = residual_LDES.shape
        if rank:
            blocks, width, slots = *self.shape[:2], self.shape[2] * self.shape[3]
            self.residual_left_LDr = nn.Parameter(torch.randn(blocks, width, rank) / math.sqrt(width))
            self.residual_right_LrX = nn.Parameter(residual_LDES.new_zeros(blocks, rank, slots))
        else:
            self.residual_LDES = nn.Parameter(residual_LDES)
        self.register_parameter("missing_D", None if missing_D is None else nn.Parameter(missing_D))

    def residual(self) -> Tensor:
        """Return Φ_k, or Δ_k if Φ_k is composed, (L, D, E, S)."""
        if "residual_LDES" in self._parameters:
            return self.residual_LDES
        return (self.residual_left_LDr @ self.residual_right_LrX).view(self.shape)


class ModalityParts(nn.Module):
    """Parameters that all groups with a modality share: U_i of the router and b_i of the missing-modality embedding."""

    def __init__(self, modalities: int, config: ModelConfig) -> None:
        super().__init__()
        shape = (modalities, config.blocks, config.width, config.experts, config.slots)
        self.residual_mLDES = nn.Parameter(torch.zeros(shape))
        self.missing_mD = nn.Parameter(torch.randn(modalities, config.width) * MISSING_STD)

    def of(self, group_G: Tensor) -> tuple[Tensor, Tensor]:
        """Return Σ_{i∈g_k} U_i and Σ_{i∈g_k} b_i of each group, (G, L, D, E, S) and (G, D)."""
        bit_m = torch.arange(len(self.missing_mD), device=group_G.device)
        has_Gm = (group_G.unsqueeze(1) >> bit_m & 1).to(self.missing_mD.dtype)
        return torch.einsum("gm,mldes->gldes", has_Gm, self.residual_mLDES), has_Gm @ self.missing_mD


def sine_residual(group: int, config: ModelConfig) -> Tensor:
    """Return the sinusoidal initial Φ_k, (L, D, E, S): a tenth of Φ_shared's size, the same in every block.

        Φ_k[d, x] = a·sin(ω_d·x + 2π·u_k + (d odd)·π/2),  ω_d = 10000^(−2⌊d/2⌋/D),  a = √2·SINE_SHARE/√D

    over the columns x = 0 … E·S − 1. These are position encodings of the columns, so that experts differ, shifted by a
    phase of the group. u_k is the fractional part of k·golden ratio (Fibonacci hashing), computed in integers and
    therefore exact for any bitmask. It spreads the groups of a few modalities evenly over the circle.
    """
    phase = 2 * math.pi * ((group * 0x9E3779B97F4A7C15) % 2**64) / 2**64
    d_D = torch.arange(config.width, dtype=torch.float64)
    x_X = torch.arange(config.experts * config.slots, dtype=torch.float64)
    omega_D = 10000.0 ** (-2 * (d_D // 2) / config.width)
    angle_DX = omega_D[:, None] * x_X + phase + (d_D[:, None] % 2) * math.pi / 2
    phi_DES = math.sqrt(2 / config.width) * SINE_SHARE * angle_DX.sin().view(-1, config.experts, config.slots)
    return phi_DES.to(torch.get_default_dtype()).repeat(config.blocks, 1, 1, 1)


@registry.register(
    "remind",
    title="Soft mixture of experts whose router has a small residual per group; settings in [model]",
    paper="Wu et al., REMIND, arXiv 2603.00046",
    year=2026,
    options=RemindOptions,
)
class Remind(FusionModel):
    """Tokens of each modality → class logits. `add_groups` adds parameters per group; no tensor has a size of 2^m.

    Stage 1 (`routing` False) uses Φ_k = 0. A group that is unseen in training uses Φ_k = 0 and the mean of the known B
    (algorithm §4.10); with `compose` it uses Σ U_i and Σ b_i of its modalities.
    """

    shrinkable = True
    private = True

    def __init__(self, context: Context, options: RemindOptions) -> None:
        super().__init__(context, options)
        self.config = config = context.model
        self.options = options
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(RemindBlock(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, context.classes)
        self.parts = ModalityParts(len(context.modalities), config) if options.compose else None

    def new_group(self, group: int) -> nn.Module:
        """Return Φ_k = 0 and B_k ~ N(0, .02²), unless the options choose another initialisation."""
        config, lacks = self.config, group != self.context.full and self.options.missing == "learned"
        missing_D = torch.randn(config.width) * MISSING_STD if lacks else None
        if missing_D is not None and self.parts is not None:
            missing_D = torch.zeros_like(missing_D)
        if self.options.residual == "sine":
            return GroupParameters(sine_residual(group, config), missing_D)
        zero = torch.zeros(config.blocks, config.width, config.experts, config.slots)
        return GroupParameters(zero, missing_D, self.options.rank)

    @override
    def shrinks(self, name: str) -> bool:
        return super().shrinks(name) or (self.parts is not None and name.endswith(".missing_D"))

    @override
    def idle(self, name: str, routing: bool) -> bool:
        return super().idle(name, routing) or (".residual_" in name and (not routing or self.config.gate == "never"))

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        groups, row_B = self.groups.in_batch(group_B)
        missing_GD, residual_GLDES = self._missing(groups), self._residuals(groups) if routing else None
        if self.parts is not None:
            group_G = torch.tensor(groups, device=group_B.device)
            if traced():  # unknown groups share a row but differ in parts: each patient gets its own row
                group_G, missing_GD = group_B, missing_GD[row_B]
                residual_GLDES = None if residual_GLDES is None else residual_GLDES[row_B]
                row_B = torch.arange(group_B.shape[0], device=group_B.device)
            shared_GLDES, shared_GD = self.parts.of(group_G)
            missing_GD = missing_GD + shared_GD
            residual_GLDES = None if residual_GLDES is None else residual_GLDES + shared_GLDES
        owns = [self._own(k) for k in groups]
        missing_BD = gather_rows(missing_GD, row_B, [None if own is None else own.missing_D for own in owns])
        z_BMD = self.dropout(fill_missing(tokens, presence_Bm, missing_BD))
        if current_tape() is not None and residual_GLDES is not None:
            residuals = [None if own is None else own._parameters.get("residual_LDES") for own in owns]
            residual_GLDES = gather_rows(residual_GLDES, row_B, residuals)
            row_B = torch.arange(len(row_B), device=row_B.device)
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

    def _own(self, group: int) -> GroupParameters | None:
        """Return the parameters of a group; None if the group is unknown."""
        if str(group) not in self.groups:
            return None
        own = self.groups[str(group)]
        assert isinstance(own, GroupParameters)
        return own

    def _missing(self, groups: Sequence[int]) -> Tensor:
        """Return B_k of each group, or β_k if B is composed, (G, D)."""
        zero_D = torch.zeros_like(self.norm.weight)
        if self.parts is None:
            return self.groups.stacked(groups, lambda own: own.missing_D, zero_D)
        own = [self._own(k) for k in groups]
        return torch.stack([zero_D if one is None or one.missing_D is None else one.missing_D for one in own])

    def _residuals(self, groups: Sequence[int]) -> Tensor:
        """Return Φ_k of each group, or Δ_k if Φ is composed, (G, L, D, E, S); 0 for an unknown group."""
        config, like = self.config, self.norm.weight
        zero = like.new_zeros(config.blocks, config.width, config.experts, config.slots)
        return torch.stack([zero if (own := self._own(k)) is None else own.residual() for k in groups])


def fill_missing(tokens: Sequence[Tensor], presence_Bm: Tensor, missing_BD: Tensor) -> Tensor:
    """Return all tokens of each patient, (B, M, D), with B_k where a modality is missing (algorithm §2.1)."""
    missing_B1D = missing_BD.unsqueeze(1)
    filled = [torch.where(presence_Bm[:, i, None, None], z_BlD, missing_B1D) for i, z_BlD in enumerate(tokens)]
    return torch.cat(filled, dim=1)
