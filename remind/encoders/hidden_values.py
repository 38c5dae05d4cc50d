"""Self-supervised learning: an encoder learns to predict values that are hidden from it (``pretraining-rounds``).

Each class contains an encoder and a head that predicts the hidden values from the encoder's tokens. Only the encoder is
kept. For tables, SCARF and VIME use the same pretext task, masked features (Yoon et al., VIME, NeurIPS 2020).

Shapes: P patients, F columns, X outputs of the head, O observations, I items, T terms of time, l tokens, D width.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.data.cohort.kinds.series import SeriesBatch

HIDDEN = 0.3  # probability that a value is hidden
TERMS = 5  # functions of time: 1, t, t², and a sine and a cosine over the horizon


class HiddenValues(nn.Module, ABC):
    """An encoder, and a head that predicts the hidden values from the encoder's tokens."""

    @abstractmethod
    def forward(self, inputs: Any) -> Tensor | None:
        """Hide some of the values of P patients, and return the mean loss of the hidden ones; None if none is hidden.

        `inputs` are the encoder's inputs.
        """


class HiddenCells(HiddenValues):
    """Hidden cells of a table: the scaled value of a number, the level of a category.

    Parameters
    ----------
    encoder
        The encoder; its tokens have `size` numbers in all.
    scaled
        Function of the values (P, F) that returns the numbers as the encoder scales them.
    levels
        Number of levels of each column; 0: a numeric column.
    """

    def __init__(
        self, encoder: nn.Module, scaled: Callable[[Tensor], Tensor], levels: Sequence[int], size: int
    ) -> None:
        super().__init__()
        self.encoder, self.scaled, self.levels = encoder, scaled, levels
        self.widths = [count or 1 for count in levels]
        self.head = nn.Linear(size, sum(self.widths))

    @override
    def forward(self, inputs: Tensor) -> Tensor | None:
        hidden_PF = ~inputs.isnan() & (torch.rand_like(inputs) < HIDDEN)
        if not hidden_PF.any():
            return None
        told_PX = self.head(self.encoder(inputs.masked_fill(hidden_PF, torch.nan)).flatten(1))
        scaled_PF = self.scaled(inputs)
        losses = []
        for f, (told_PK, count) in enumerate(zip(told_PX.split(self.widths, dim=1), self.levels, strict=True)):
            row_P = hidden_PF[:, f]
            if count:
                level_P = inputs[row_P, f].long()
                losses.append(functional.cross_entropy(told_PK[row_P], level_P, reduction="none"))
            else:
                losses.append(functional.smooth_l1_loss(told_PK[row_P, 0], scaled_PF[row_P, f], reduction="none"))
        return torch.cat(losses).mean()


class HiddenObservations(HiddenValues):
    """Hidden observations of a series: the standardised value of an item at the time of the observation.

    The head gives each item a function of time: the sum of `TERMS` coefficients times 1, t, t², sin 2πt, cos 2πt, with
    t in units of the horizon.

    Parameters
    ----------
    encoder
        The encoder; its tokens have `size` numbers in all.
    standardised
        Function of the observations that returns their standardised values, (O,).
    items, horizon
        Number of items, and hours of observation.
    """

    def __init__(
        self, encoder: nn.Module, standardised: Callable[[SeriesBatch], Tensor], items: int, horizon: float, size: int
    ) -> None:
        super().__init__()
        self.encoder, self.standardised, self.items, self.horizon = encoder, standardised, items, horizon
        self.head = nn.Linear(size, items * TERMS)

    @override
    def forward(self, inputs: SeriesBatch) -> Tensor | None:
        hidden_O = torch.rand_like(inputs.value_O) < HIDDEN
        if not hidden_O.any():
            return None
        told_PX = self.head(self.encoder(inputs.taken(~hidden_O)).flatten(1))
        told_PIT = told_PX.view(inputs.patients, self.items, TERMS)
        hidden = inputs.taken(hidden_O)
        t_O = hidden.time_O / self.horizon
        turn_O = 2 * math.pi * t_O
        terms_OT = torch.stack([torch.ones_like(t_O), t_O, t_O**2, turn_O.sin(), turn_O.cos()], dim=1)
        told_O = (told_PIT[hidden.patient_O, hidden.item_O] * terms_OT).sum(dim=1)
        return functional.smooth_l1_loss(told_O, self.standardised(hidden))
