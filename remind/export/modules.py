"""Fusion models and encoders as modules for export: tensors in, tensors out, nothing else.

Shapes: B patients, P of them with a modality, m modalities, M tokens in all, D width, C classes, F columns.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from remind.errors import UserError
from remind.fusion.base import FusionModel


class FusionProgram(nn.Module):
    """tokens (B, M, D), presence (B, m) bool → logits (B, C), gate_open (B,).

    Tokens are in schema order; those of absent modalities may have any value. ``gate_open`` is the share of blocks in
    which the group's own router was used; 0 if the method has no gate.

    Parameters
    ----------
    fusion
        The model with its trained parameters.
    routing
        Whether the model uses Φ_k.

    Raises
    ------
    UserError
        The model adds its output to scores of each hospital's own models.
    """

    bit_m: Tensor

    def __init__(self, fusion: FusionModel, routing: bool) -> None:
        super().__init__()
        if fusion.context.model.stays:
            raise UserError(
                "model.encoders.alone, model.linear: each hospital's own models stay at the hospital, and this model "
                "needs their scores; only a run without these settings can be exported as a program"
            )
        self.fusion, self.routing = fusion, routing
        self.counts = list(fusion.context.tokens)
        self.register_buffer("bit_m", torch.tensor([1 << i for i in range(len(self.counts))]), persistent=False)

    @override
    def forward(self, tokens: Tensor, presence: Tensor) -> tuple[Tensor, Tensor]:
        group_B = (presence.long() * self.bit_m).sum(dim=1)
        output = self.fusion(torch.split(tokens, self.counts, dim=1), presence, group_B, self.routing)
        open_B = output.open_B
        return output.logits_BC, tokens.new_zeros(tokens.shape[0]) if open_B is None else open_B.to(tokens.dtype)

    def example(self, patients: int) -> tuple[Tensor, Tensor]:
        """Return inputs of artificial patients who have every modality."""
        like = next(self.fusion.parameters())
        context = self.fusion.context
        tokens_BMD = torch.zeros(patients, sum(self.counts), context.width, dtype=like.dtype)
        return tokens_BMD, torch.ones(patients, len(context.modalities), dtype=torch.bool)


class TableProgram(nn.Module):
    """values (P, F), with NaN for missing values and the level's index in categorical columns → tokens (P, l, D)."""

    def __init__(self, encoder: nn.Module, columns: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.columns = encoder, tuple(columns)

    @override
    def forward(self, values: Tensor) -> Tensor:
        tokens_PlD: Tensor = self.encoder(values)
        return tokens_PlD

    def example(self, patients: int) -> tuple[Tensor]:
        """Return a table without values."""
        like = next(self.encoder.parameters())
        return (torch.full((patients, len(self.columns)), torch.nan, dtype=like.dtype),)
