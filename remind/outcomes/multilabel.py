"""Several labels per patient, each of which holds or not: one logit each."""

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


class MultilabelSection(LabelSection):
    """``[label]`` of several labels: a column each.

    With ``missing = "drop"`` a patient may lack some of them: these are left out of the loss and the scores.
    """

    kind: Literal["multilabel"]
    labels: Annotated[tuple[Name, ...], Field(min_length=2)]
    values: tuple[Name, Name] = ("no", "yes")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if twice := sorted({label for label in self.labels if self.labels.count(label) > 1}):
            raise ValueError(f"labels lists {', '.join(twice)} more than once: name each column once")
        return self

    @property
    @override
    def outcome(self) -> "Multilabel":
        return Multilabel(labels=self.labels)

    @property
    @override
    def columns(self) -> tuple[Column, ...]:
        return tuple(Column(label, "label.labels", self.values, names_field="label.values") for label in self.labels)

    @classmethod
    @override
    def of(cls, outcome: Any) -> Self:
        return cls(kind="multilabel", labels=outcome.labels)


@register
class Multilabel(Outcome):
    """Labels by name; outputs are their logits, targets 0 or 1, NaN where a label is not known."""

    section: ClassVar[type[LabelSection]] = MultilabelSection
    chief: ClassVar[str] = "auroc"
    title: ClassVar[str] = "several labels"
    sides: ClassVar[Sides | None] = Sides(
        "each with a label and without it (on average over the labels)", "of those with or without a label"
    )
    undefined: ClassVar[str] = "AUROC if each label holds for all patients or for none"

    kind: Literal["multilabel"] = "multilabel"
    labels: tuple[str, ...]

    @property
    @override
    def width(self) -> int:
        return len(self.labels)

    @property
    @override
    def targets(self) -> int:
        return len(self.labels)

    @property
    @override
    def strata(self) -> tuple[str, ...]:
        return "no label", "one label", "more labels"

    @property
    @override
    def chance_loss(self) -> float:
        return log(2)

    @property
    @override
    def values(self) -> tuple[str, ...]:
        return tuple(f"p_{label}" for label in self.labels)

    @property
    @override
    def histograms(self) -> int:
        return len(self.labels)

    @override
    def encode(self, columns: Sequence[NDArray[Any]]) -> Encoded:
        code_RL = np.stack(columns, axis=1)
        target_RL = np.where(code_RL < 0, np.nan, code_RL.astype(np.float64))
        stratum_R = (code_RL == 1).sum(axis=1).clip(max=2)
        return Encoded(np.where((code_RL < 0).all(axis=1), -1, stratum_R).astype(np.int64), target_RL)

    @override
    def decode(self, label_N: Integers, target_NT: Floats | None) -> dict[str, list[Any]]:
        assert target_NT is not None
        names = {0.0: "no", 1.0: "yes"}
        return {label: [names.get(v) for v in target_NT[:, i].tolist()] for i, label in enumerate(self.labels)}

    @override
    def alike(self, label_N: Integers, target_NT: Floats | None) -> str:
        assert target_NT is not None
        seen = [self._seen(target_NT, i) for i in range(self.width)]
        return "have the same labels" if all(len(values) < 2 for values in seen) else ""

    @override
    def lacking(self, label_N: Integers, target_NT: Floats | None) -> list[str]:
        assert target_NT is not None
        words = {(): "is known of no patient", (0.0,): "holds for no patient", (1.0,): "holds for every patient"}
        seen = {label: tuple(self._seen(target_NT, i)) for i, label in enumerate(self.labels)}
        return [
            f"label {label!r} {words[values]}: it cannot be learned from this cohort"
            for label, values in seen.items()
            if values in words
        ]

    @staticmethod
    def _seen(target_NT: Floats, label: int) -> list[float]:
        """Return the different values of a label among the patients of whom it is known."""
        return sorted(set(target_NT[~np.isnan(target_NT[:, label]), label].tolist()))

    @override
    def loss(self, raw_BW: "Tensor", target: "Tensor") -> "Tensor":
        """Return the mean cross-entropy over the labels that are known."""
        from torch.nn import functional

        known_BL = ~target.isnan()
        wanted_BL = target.nan_to_num().to(raw_BW.dtype)
        loss_BL = functional.binary_cross_entropy_with_logits(raw_BW, wanted_BL, reduction="none")
        return (loss_BL * known_BL).sum(dim=1) / known_BL.sum(dim=1).clamp(min=1)

    @override
    def predict(self, raw_NW: Floats) -> Floats:
        return np.exp(-np.logaddexp(0.0, -raw_NW))

    @override
    def collect(self, seen: Seen, raw_BW: Floats, temperature: float = 1.0) -> dict[int, GroupStatistics]:
        assert seen.target_BT is not None
        known_BL = ~np.isnan(seen.target_BT)
        true_BL = np.nan_to_num(seen.target_BT)
        number_B = known_BL.sum(axis=1).clip(min=1)
        loss_BL = np.logaddexp(0.0, np.where(true_BL == 1, -raw_BW, raw_BW))
        square_BL = (self.predict(raw_BW) - true_BL) ** 2
        code_BL = (2 * np.arange(self.width) + true_BL.astype(np.int64)) * BINS + bins(raw_BW)
        return gather(
            self,
            seen,
            (loss_BL * known_BL).sum(axis=1) / number_B,
            np.zeros((len(raw_BW), 0)),
            np.where(known_BL, code_BL, -1),
            (square_BL * known_BL).sum(axis=1) / number_B,
        )

    @override
    def problem(self, statistics: GroupStatistics) -> str:
        if found := super().problem(statistics):
            return found
        label_F = statistics.scores.code_F // BINS // 2
        number_L = np.bincount(label_F, weights=statistics.scores.count_F, minlength=self.width)
        if len(number_L) > self.width or (number_L > statistics.count).any():
            return "a label's scores are of more patients than there are, or of a label that there is not"
        return ""

    @classmethod
    @override
    def made(cls, score_N: Floats, rng: np.random.Generator) -> tuple["Multilabel", Encoded]:
        own = cls(labels=("death", "readmission", "transfer"))
        noise_NL = 0.3 * rng.standard_normal((len(score_N), 3))
        high_NL = score_N[:, None] * np.array([1.0, 1.0, -1.0]) + noise_NL > np.array([1.0, 0.0, 0.3])
        return own, own.encode(list(high_NL.T.astype(np.int64)))

    @override
    def describe(self) -> str:
        return f"the labels {', '.join(self.labels)}"
