"""The time until an event, or until a patient was last seen without it: discrete-time hazards.

Time is cut at declared edges t_1 < … < t_K into intervals (0, t_1], (t_1, t_2] …; what happens after t_K is censored
there. A patient with the event in interval k has the likelihood h_k Π_{j<k} (1 − h_j); one who is censored has survived
the intervals that ended before, Π_{j<c} (1 − h_j) (Gensheimer and Narasimhan 2019, without their half intervals).
"""

from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from typing_extensions import override

from remind.metrics.histograms import BINS, bins
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
    Sides,
    register,
)
from remind.outcomes.group_sums import gather

if TYPE_CHECKING:
    from torch import Tensor

MOST_INTERVALS = 50


class SurvivalSection(LabelSection):
    """``[label]`` of a time to an event: two columns, and where time is cut."""

    kind: Literal["survival"]
    time: Name = "time"
    event: Name = "event"
    events: tuple[Name, Name] = ("no", "yes")
    edges: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2, max_length=MOST_INTERVALS)]
    unit: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges must rise: give the end of each interval of time, such as [1, 2, 4, 8]")
        if self.time == self.event:
            raise ValueError(f"time and event are both the column {self.time!r}: name two different columns")
        return self

    @property
    @override
    def outcome(self) -> "Survival":
        return Survival(edges=self.edges, unit=self.unit)

    @property
    @override
    def columns(self) -> tuple[Column, ...]:
        time = Column(self.time, "label.time", low=0.0, bounds="the unit or the start of the time")
        return time, Column(self.event, "label.event", self.events, names_field="label.events")

    @classmethod
    @override
    def of(cls, outcome: Any) -> Self:
        return cls(kind="survival", edges=outcome.edges, unit=outcome.unit)


@register
class Survival(Outcome):
    """K intervals that end at `edges`; outputs are the logits of their hazards, targets time and event.

    Statistics that merge exactly: patients by interval, event and binned risk (`scores`), and with S the survival that
    is predicted, for each end t_k the sums of S(t_k)² over patients with the event in interval j ≤ k, and of
    (1 − S(t_k))² over those seen beyond interval k (`sums_S`).
    """

    section: ClassVar[type[LabelSection]] = SurvivalSection
    chief: ClassVar[str] = "c_index"
    title: ClassVar[str] = "the time to an event"
    sides: ClassVar[Sides | None] = Sides("each with the event and without it", "of those with or without the event")
    undefined: ClassVar[str] = "C-index with patients who all lack the event"

    kind: Literal["survival"] = "survival"
    edges: tuple[float, ...]
    unit: str = ""

    @property
    @override
    def width(self) -> int:
        return len(self.edges)

    @property
    @override
    def targets(self) -> int:
        return 2

    @property
    @override
    def strata(self) -> tuple[str, ...]:
        return "censored", "event"

    @property
    @override
    def chance_loss(self) -> float:
        return log(1 + self.width)  # an event in one of the intervals, or none, equally likely

    @property
    @override
    def values(self) -> tuple[str, ...]:
        return (*(f"survival_{edge:g}" for edge in self.edges), "expected_time")

    @property
    @override
    def sums(self) -> int:
        return self.width * (self.width + 2)

    @property
    @override
    def histograms(self) -> int:
        return self.width + 1

    @property
    def widths_K(self) -> Floats:
        """Length of each interval."""
        return np.diff(np.array([0.0, *self.edges]))

    @override
    def encode(self, columns: Sequence[NDArray[Any]]) -> Encoded:
        time_R, event_R = columns
        known_R = ~np.isnan(time_R) & (event_R >= 0)
        happens_R = (event_R == 1) & (time_R <= self.edges[-1])
        return Encoded(
            np.where(known_R, happens_R, -1).astype(np.int64), np.stack([time_R, event_R.astype(np.float64)], axis=1)
        )

    @override
    def decode(self, label_N: Integers, target_NT: Floats | None) -> dict[str, list[Any]]:
        assert target_NT is not None
        event_N = ["yes" if happened == 1 else "no" for happened in target_NT[:, 1].tolist()]
        return {"time": target_NT[:, 0].tolist(), "event": event_N}

    def placed(self, target_NT: Floats) -> tuple[Integers, NDArray[np.bool_]]:
        """Return each patient's interval 0 … K and whether the event happened in it.

        Of a patient without the event it is the number of intervals that were survived.
        """
        time_N, edges_K = target_NT[:, 0], np.array(self.edges)
        event_N = (target_NT[:, 1] == 1) & (time_N <= edges_K[-1])
        within_N = np.searchsorted(edges_K, time_N, side="left")  # t_{k-1} < t ≤ t_k
        survived_N = np.searchsorted(edges_K, time_N, side="right")  # ends ≤ t
        return np.where(event_N, within_N, survived_N).astype(np.int64), event_N

    @override
    def alike(self, label_N: Integers, target_NT: Floats | None) -> str:
        assert target_NT is not None
        place_N, event_N = self.placed(target_NT)
        if not event_N.any():
            return f"are without the event until the last edge, {self.edges[-1]:g} {self.unit}".rstrip()
        same = event_N.all() and (place_N == place_N[0]).all()
        return "have the event in the same interval" if same else ""

    @override
    def lacking(self, label_N: Integers, target_NT: Floats | None) -> list[str]:
        assert target_NT is not None
        if self.placed(target_NT)[1].any():
            return []
        return [f"no patient has the event until the last edge, {self.edges[-1]:g}: check label.edges and its unit"]

    @override
    def loss(self, raw_BW: "Tensor", target: "Tensor") -> "Tensor":
        from torch.nn import functional

        place_B, event_B = self.placed(target.cpu().numpy())
        interval_K = np.arange(self.width)
        survived = raw_BW.new_tensor(interval_K < place_B[:, None])
        happens = raw_BW.new_tensor((interval_K == place_B[:, None]) & event_B[:, None])
        return (survived * functional.softplus(raw_BW) + happens * functional.softplus(-raw_BW)).sum(dim=1)

    def survival(self, raw_NW: Floats) -> Floats:
        """Return S(t_k), (N, K)."""
        s_NK: Floats = np.exp(-np.logaddexp(0.0, raw_NW).cumsum(axis=1))
        return s_NK

    @override
    def predict(self, raw_NW: Floats) -> Floats:
        """Return S at every edge, and the expected time until the last one: Σ_k S(t_k)·(t_k − t_{k−1}), from below."""
        s_NK = self.survival(raw_NW)
        return np.concatenate([s_NK, (s_NK @ self.widths_K)[:, None]], axis=1)

    @override
    def collect(self, seen: Seen, raw_BW: Floats, temperature: float = 1.0) -> dict[int, GroupStatistics]:
        assert seen.target_BT is not None
        place_B, event_B = self.placed(seen.target_BT)
        s_BK, interval_K = self.survival(raw_BW), np.arange(self.width)
        survived_BK = interval_K < place_B[:, None]
        happens_BK = (interval_K == place_B[:, None]) & event_B[:, None]
        loss_B = np.where(survived_BK, np.logaddexp(0.0, raw_BW), 0.0).sum(axis=1)
        loss_B += np.where(happens_BK, np.logaddexp(0.0, -raw_BW), 0.0).sum(axis=1)
        share_B = (s_BK @ self.widths_K) / self.edges[-1]  # expected share of the time without the event
        with np.errstate(divide="ignore"):
            risk_B = np.log1p(-share_B.clip(0.0, 1.0)) - np.log(share_B.clip(0.0, 1.0))
        code_B1 = ((2 * place_B + event_B) * BINS + bins(risk_B))[:, None]
        died_BKK = happens_BK[:, None, :] * (interval_K[:, None] >= interval_K) * (s_BK**2)[:, :, None]
        alive_BK = survived_BK * (1 - s_BK) ** 2
        widths_BK = np.broadcast_to(self.widths_K, s_BK.shape)
        sums_BS = np.concatenate([widths_BK, alive_BK, died_BKK.reshape(len(s_BK), -1)], axis=1)
        return gather(self, seen, loss_B, sums_BS, code_B1)

    @override
    def problem(self, statistics: GroupStatistics) -> str:
        if found := super().problem(statistics):
            return found
        row_F, n, k = statistics.scores.code_F // BINS, statistics.count, self.width
        if int(statistics.scores.count_F.sum()) != n or (row_F >= 2 * k + 1).any():
            return "its patients by interval do not add up to its patients"
        sums_S = statistics.sums_S
        if not np.allclose(sums_S[:k], n * self.widths_K) or (sums_S[k:] < 0).any() or (sums_S[k:] > n).any():
            return "its sums of squared errors are not those of so many patients, or of other intervals"
        return ""

    @classmethod
    @override
    def made(cls, score_N: Floats, rng: np.random.Generator) -> tuple["Survival", Encoded]:
        own = cls(edges=(2.0, 4.0, 7.0, 11.0, 16.0, 24.0), unit="days")
        time_N = 8.0 * np.exp(-0.8 * score_N) * rng.gumbel(1.0, 0.1, len(score_N)).clip(0.1)
        censored_N = rng.uniform(4.0, 40.0, len(score_N))
        event_N = (time_N <= censored_N).astype(np.int64)
        return own, own.encode([np.minimum(time_N, censored_N), event_N])

    @override
    def describe(self) -> str:
        return f"the time to an event, {self.width} intervals until {self.edges[-1]:g} {self.unit}".rstrip()
