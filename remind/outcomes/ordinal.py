"""One of C ordered classes per patient, by cumulative links.

Pr(y ≤ k) = σ(θ_k) with θ_1 = o_1 and θ_{k+1} = θ_k + softplus(o_{k+1}): the cut points of a patient rise, so that every
output gives probabilities. McCullagh (1980) has one score per patient and cut points common to all (proportional odds);
here a patient's cut points may also lie closer together or further apart.
"""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field
from typing_extensions import override

from remind.outcomes.base import Column, Encoded, Floats, LabelSection, Name, register
from remind.outcomes.classes import ByClass

if TYPE_CHECKING:
    from torch import Tensor

NARROWEST = 1e-6  # between two cut points: their difference must not round to 0


class OrdinalSection(LabelSection):
    """``[label]`` of ordered classes, the lowest first."""

    kind: Literal["ordinal"]
    column: Name = "label"
    classes: Annotated[tuple[Name, ...], Field(min_length=3)]

    @property
    @override
    def outcome(self) -> "Ordinal":
        return Ordinal(classes=self.classes)

    @property
    @override
    def columns(self) -> tuple[Column, ...]:
        return (Column(self.column, "label.column", self.classes),)

    @classmethod
    @override
    def of(cls, outcome: Any) -> Self:
        return cls(kind="ordinal", classes=outcome.classes)


@register
class Ordinal(ByClass):
    """Classes in order; outputs are the first cut point and what the next ones add, before softplus."""

    section: ClassVar[type[LabelSection]] = OrdinalSection
    chief: ClassVar[str] = "weighted_kappa"
    title: ClassVar[str] = "one of several ordered classes"

    kind: Literal["ordinal"] = "ordinal"

    @property
    @override
    def width(self) -> int:
        return len(self.classes) - 1

    @override
    def log_p(self, raw_BW: "Tensor") -> "Tensor":
        """Return ln of the probability of each class, (B, C).

        ln(σ(b) − σ(a)) = ln σ(b) + ln σ(−a) + ln(1 − e^(a−b)).
        """
        import torch
        from torch.nn import functional

        gap_BX = functional.softplus(raw_BW[:, 1:]).clamp(min=NARROWEST)
        cut_BW = torch.cat([raw_BW[:, :1], gap_BX], dim=1).cumsum(dim=1)
        below_BW, above_BW = functional.logsigmoid(cut_BW), functional.logsigmoid(-cut_BW)
        between_BX = below_BW[:, 1:] + above_BW[:, :-1] + torch.log(-torch.expm1(-gap_BX))
        return torch.cat([below_BW[:, :1], between_BX, above_BW[:, -1:]], dim=1)

    @classmethod
    @override
    def made(cls, score_N: Floats, rng: np.random.Generator) -> tuple["Ordinal", Encoded]:
        cuts = np.array([-0.8, 0.0, 0.8])
        own = cls(classes=("none", "mild", "moderate", "severe"))
        return own, Encoded(np.searchsorted(cuts, score_N).astype(np.int64))
