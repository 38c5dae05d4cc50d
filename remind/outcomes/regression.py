"""A number per patient, predicted in its own unit.

Everything is computed in standardised numbers z = (y − mean) / scale. Mean and scale are declared, so that all sites
have the same without anything being fitted across them. A prediction outside of the declared range counts as its end.
"""

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from typing_extensions import override

from remind.metrics.moments import MOMENTS
from remind.metrics.statistics import GroupStatistics
from remind.outcomes.base import (
    Column,
    Encoded,
    Floats,
    Integers,
    LabelSection,
    Name,
    Outcome,
    Seen,
    register,
)
from remind.outcomes.group_sums import gather

if TYPE_CHECKING:
    from torch import Tensor

QUARTILE = 0.6744897501960817  # of the standard normal law: four strata of equal size where mean and scale fit
FEW, FAR = 20, 3.0  # patients from which on mean and scale are compared with theirs; and the factor that is far off
WIDEST = 1000.0  # of the range, in scales: a wider one makes sums of fourth powers useless


class RegressionSection(LabelSection):
    """``[label]`` of a number: its column, range, and what makes it a number around 0 of size 1."""

    kind: Literal["regression"]
    column: Name = "label"
    range: tuple[float, float]
    mean: float | None = None
    scale: Annotated[float, Field(gt=0)] | None = None
    loss: Literal["squared", "huber"] = "squared"
    unit: str = ""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        low, high = self.range
        if low >= high:
            raise ValueError("range must be the smallest and the largest possible value, such as [3, 20]")
        if not isfinite(high - low):
            raise ValueError(f"range = [{low:g}, {high:g}] is too wide to compute with: narrow it")
        if self.mean is not None and not low <= self.mean <= high:
            raise ValueError(f"mean = {self.mean:g} lies outside of range = [{low:g}, {high:g}]")
        if self.scale is not None and not (high - low) / WIDEST <= self.scale <= high - low:
            raise ValueError(
                f"scale = {self.scale:g} does not go with range = [{low:g}, {high:g}]: give about the standard "
                f"deviation, at least 1/{WIDEST:g} of the range and at most all of it"
            )
        return self

    @property
    @override
    def outcome(self) -> "Regression":
        low, high = self.range
        return Regression(
            low=low,
            high=high,
            mean=(low + high) / 2 if self.mean is None else self.mean,
            scale=(high - low) / 4 if self.scale is None else self.scale,
            loss_of=self.loss,
            unit=self.unit,
        )

    @property
    @override
    def columns(self) -> tuple[Column, ...]:
        low, high = self.range
        return (Column(self.column, "label.column", low=low, high=high, bounds="label.range"),)

    @classmethod
    @override
    def of(cls, outcome: "Regression") -> Self:
        return cls(
            kind="regression",
            range=(outcome.low, outcome.high),
            mean=outcome.mean,
            scale=outcome.scale,
            loss=outcome.loss_of,
            unit=outcome.unit,
        )


@register
class Regression(Outcome):
    """A number in ``low … high``; outputs are z.

    Attributes
    ----------
    mean, scale
        In the target's unit.
    loss_of
        ``squared``: ½(z − ẑ)², −ln of a normal law of the declared scale without its constant; ``huber``: the same up
        to a distance of one scale, then linear.
    """

    section: ClassVar[type[LabelSection]] = RegressionSection
    chief: ClassVar[str] = "mae"
    title: ClassVar[str] = "a number"
    undefined: ClassVar[str] = "R² of one patient, or of patients with the same number"

    kind: Literal["regression"] = "regression"
    low: float
    high: float
    mean: float
    scale: float
    loss_of: Literal["squared", "huber"] = "squared"
    unit: str = ""

    @property
    @override
    def width(self) -> int:
        return 1

    @property
    @override
    def strata(self) -> tuple[str, ...]:
        edges = self._edges.tolist()
        digits = next((n for n in (4, 6, 9, 12) if len({f"{edge:.{n}g}" for edge in edges}) == len(edges)), 17)
        a, b, c = (f"{edge:.{digits}g}" for edge in edges)
        return f"< {a}", f"{a} … {b}", f"{b} … {c}", f"> {c}"

    @property
    def _edges(self) -> Floats:
        return self.mean + self.scale * QUARTILE * np.array([-1.0, 0.0, 1.0])

    @property
    @override
    def chance_loss(self) -> float:
        return 0.5  # of the mean, where mean and scale fit

    @property
    @override
    def targets(self) -> int:
        return 1

    @property
    @override
    def values(self) -> tuple[str, ...]:
        return ("predicted",)

    @property
    @override
    def spread(self) -> tuple[float, str]:
        return self.scale, self.unit

    @property
    @override
    def sums(self) -> int:
        return len(MOMENTS)

    @override
    def encode(self, columns: Sequence[NDArray[Any]]) -> Encoded:
        (value_R,) = columns
        stratum_R = np.searchsorted(self._edges, value_R).clip(max=3)
        return Encoded(np.where(np.isnan(value_R), -1, stratum_R).astype(np.int64), value_R[:, None])

    @override
    def decode(self, label_N: Integers, target_NT: Floats | None) -> dict[str, list[Any]]:
        assert target_NT is not None
        return {"label": target_NT[:, 0].tolist()}

    @override
    def alike(self, label_N: Integers, target_NT: Floats | None) -> str:
        assert target_NT is not None
        number_N = target_NT[:, 0]
        return f"have the number {number_N[0]:g}" if (number_N == number_N[0]).all() else ""

    @override
    def lacking(self, label_N: Integers, target_NT: Floats | None) -> list[str]:
        assert target_NT is not None
        mean, spread = float(target_NT[:, 0].mean()), float(target_NT[:, 0].std())
        fits = abs(mean - self.mean) <= self.scale and self.scale / FAR <= spread <= self.scale * FAR
        if len(label_N) < FEW or fits:
            return []
        return [
            f"the label's mean and standard deviation are about {mean:.2g} and {spread:.2g}, but label.mean and "
            f"label.scale are {self.mean:.4g} and {self.scale:.4g}: learning is slow then; agree with the other "
            "hospitals on values that fit"
        ]

    @override
    def loss(self, raw_BW: "Tensor", target: "Tensor") -> "Tensor":
        from torch.nn import functional

        z_B = (target[:, 0] - self.mean) / self.scale
        if self.loss_of == "huber":
            return functional.huber_loss(raw_BW[:, 0], z_B.to(raw_BW.dtype), reduction="none")
        return 0.5 * (raw_BW[:, 0] - z_B.to(raw_BW.dtype)) ** 2

    @override
    def predict(self, raw_NW: Floats) -> Floats:
        return np.clip(self.mean + self.scale * raw_NW, self.low, self.high)

    @override
    def collect(self, seen: Seen, raw_BW: Floats, temperature: float = 1.0) -> dict[int, GroupStatistics]:
        assert seen.target_BT is not None
        z_B = (seen.target_BT[:, 0] - self.mean) / self.scale
        p_B = (self.predict(raw_BW)[:, 0] - self.mean) / self.scale
        return gather(self, seen, self._log_loss(raw_BW[:, 0] - z_B), moments(z_B, p_B, self.scale))

    @classmethod
    @override
    def made(cls, score_N: Floats, rng: np.random.Generator) -> tuple["Regression", Encoded]:
        own = cls(low=0.0, high=100.0, mean=50.0, scale=10.0, unit="points")
        return own, own.encode([(50 + 10 * score_N).clip(0, 100)])

    def _log_loss(self, error_B: Floats) -> Floats:
        size_B = np.abs(error_B)
        return np.where((self.loss_of == "huber") & (size_B > 1), size_B - 0.5, 0.5 * size_B**2)

    @override
    def problem(self, statistics: GroupStatistics) -> str:
        if found := super().problem(statistics):
            return found
        own, n = dict(zip(MOMENTS, statistics.sums_S.tolist(), strict=True)), statistics.count
        low, high = (self.low - self.mean) / self.scale, (self.high - self.mean) / self.scale
        most, slack = max(abs(low), abs(high)), 1 + 1e-9
        if abs(own["scale"] - n * self.scale) > 1e-6 * n * self.scale:
            return "its numbers are in another scale"
        for name in ("y", "p"):
            if not (n * low - 1e-6 * n <= own[name] <= n * high + 1e-6 * n) or own[f"{name}2"] > n * most**2 * slack:
                return f"its sum {name} is beyond the declared range"
            if own[name] ** 2 > n * own[f"{name}2"] * slack + 1e-9 * n:
                return f"its sum {name}2 is less than such a sum {name} can have"
        if own["e1"] > n * (high - low) * slack or own["e1"] ** 2 > n * own["e2"] * slack + 1e-9 * n:
            return "its sums of errors do not fit each other"
        return ""

    @override
    def describe(self) -> str:
        return f"a number in {self.low:g} … {self.high:g} {self.unit}".rstrip()


def moments(z_B: Floats, p_B: Floats, scale: float) -> Floats:
    """Return what is added up of each patient's target and prediction, (B, S), in the order of `MOMENTS`."""
    e_B = p_B - z_B
    ones = np.ones_like(z_B)
    columns = (
        *(scale * ones, np.abs(e_B), e_B**2, e_B**4),
        *(z_B, z_B**2, z_B**3, z_B**4),
        *(p_B, p_B**2, z_B * p_B, e_B**2 * z_B, e_B**2 * z_B**2),
    )
    return np.stack(columns, axis=1)
