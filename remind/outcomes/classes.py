"""One of C classes per patient."""

from collections.abc import Sequence
from math import log
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from remind.metrics.statistics import GroupStatistics, collect, scored_classes
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

if TYPE_CHECKING:
    from torch import Tensor


class ClassesSection(LabelSection):
    """``[label]`` of classes: a column that holds the name of a class, or its number."""

    kind: Literal["classes"] = "classes"
    column: Name = "label"
    classes: Annotated[tuple[Name, ...], Field(min_length=2)]

    @property
    @override
    def outcome(self) -> "Classes":
        return Classes(classes=self.classes)

    @property
    @override
    def columns(self) -> tuple[Column, ...]:
        return (Column(self.column, "label.column", self.classes),)

    @classmethod
    @override
    def of(cls, outcome: "ByClass") -> Self:
        return cls(classes=outcome.classes)


class ByClass(Outcome):
    """Base class of outcomes that are one of C classes; a subclass says how outputs become probabilities."""

    by_class: ClassVar[bool] = True
    chief: ClassVar[str] = "auroc"
    sides: ClassVar[Sides | None] = Sides("of each of two classes", "of one class")
    undefined: ClassVar[str] = "AUROC with patients of only one class"

    classes: tuple[str, ...]

    @property
    @override
    def strata(self) -> tuple[str, ...]:
        return self.classes

    @property
    @override
    def chance_loss(self) -> float:
        return log(len(self.classes))

    @property
    @override
    def histograms(self) -> int:
        return len(scored_classes(len(self.classes)))

    @override
    def encode(self, columns: Sequence[NDArray[Any]]) -> Encoded:
        (label_R,) = columns
        return Encoded(label_R.astype(np.int64))

    @override
    def decode(self, label_N: Integers, target_NT: Floats | None) -> dict[str, list[Any]]:
        return {"label": np.array(self.classes, dtype=np.str_)[label_N].tolist()}

    @override
    def alike(self, label_N: Integers, target_NT: Floats | None) -> str:
        return f"are of class {self.classes[label_N[0]]!r}" if (label_N == label_N[0]).all() else ""

    @override
    def lacking(self, label_N: Integers, target_NT: Floats | None) -> list[str]:
        absent = [name for code, name in enumerate(self.classes) if not (label_N == code).any()]
        words = f"no patient has the label {', '.join(absent)}: these classes cannot be learned from this cohort"
        return [words] if absent else []

    def log_p(self, raw_BW: "Tensor") -> "Tensor":
        """Return ln of the probability of each class, (B, C)."""
        return raw_BW.log_softmax(dim=-1)

    @override
    def loss(self, raw_BW: "Tensor", target: "Tensor") -> "Tensor":
        from torch.nn import functional

        return functional.nll_loss(self.log_p(raw_BW), target, reduction="none")

    @override
    def collect(self, seen: Seen, raw_BW: Floats, temperature: float = 1.0) -> dict[int, GroupStatistics]:
        import torch

        log_p_BC = self.log_p(torch.from_numpy(raw_BW) / temperature).numpy()
        return collect(seen.group_B, seen.label_B, seen.loss_B, log_p_BC, seen.open_B, seen.use_BE, outcome=self.kind)


@register
class Classes(ByClass):
    """Classes without an order: outputs are logits."""

    section: ClassVar[type[LabelSection]] = ClassesSection
    title: ClassVar[str] = "one of several classes"

    kind: Literal["classes"] = "classes"

    @property
    @override
    def width(self) -> int:
        return len(self.classes)

    @classmethod
    @override
    def made(cls, score_N: Floats, rng: np.random.Generator) -> tuple["Classes", Encoded]:
        return cls(classes=("no", "yes")), Encoded((score_N > 0).astype(np.int64))
