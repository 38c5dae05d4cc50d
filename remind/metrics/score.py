"""The class of a score, and its registration. Modules of `remind.metrics.scores` import this one, not the registry."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from typing import Any, TypeVar

from remind.extensions import SCORES, load_extensions, load_folder
from remind.metrics.intervals import Interval
from remind.metrics.statistics import GroupStatistics

OF_OUTCOMES = "remind.metrics.outcome_scores"
PACKAGE = "remind.metrics.scores"
BY_CLASS = ("classes", "ordinal")  # outcomes whose statistics hold a confusion table and histograms of classes
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_TAKEN = frozenset(
    {"n", "positives", "group", "site", "tail", "weight", "risk", "gate_open", "train_n", "name", "round"}
)
_REGISTERED: dict[str, "Score"] = {}
Class = TypeVar("Class", bound=type)


@dataclass(frozen=True)
class Part:
    """The part of what is predicted that a score is of, such as a region of a mask.

    Attributes
    ----------
    position
        Its place among the parts (`Outcome.parts`), from 0.
    named
        Function that returns the same score with this name of the part in its title, its column and its meaning.
    """

    position: int
    named: Callable[[str], "Score"]


@dataclass(frozen=True)
class Score:
    """One score of a set of patients.

    Attributes
    ----------
    name
        Name in files, messages and addresses.
    title, column
        For people: in a sentence, and as the head of a narrow column.
    meaning
        What the score measures, in a few words.
    value
        Function that computes it from merged statistics; None where it is undefined.
    interval
        Function that computes its 95 % interval; None for a score without an interval.
    bound
        Function that computes the largest possible difference to the score of the unbinned scores; None for a score
        whose bound is always below `TIGHT`, or 0.
    lower_is_better
        Direction of the score.
    within_one
        Whether it lies in 0 … 1.
    two_classes
        Whether it is undefined if only one class occurs among the patients.
    comparable
        Whether it can compare models that were trained with different objectives.
    outcomes
        Names of the outcomes (`remind.outcomes`) whose statistics it is computed from; empty: of every outcome.
    in_unit
        Whether it is in the unit of the number that is predicted (`Outcome.spread`).
    guessing
        Its value for a model that knows nothing of a patient, and that below which a model is hardly better; None if
        they depend on the patients.
    part
        The part of what is predicted that it is of; None: the whole.
    """

    name: str
    title: str
    column: str
    meaning: str
    value: Callable[[GroupStatistics], float | None]
    interval: Callable[[GroupStatistics], Interval | None] | None = None
    bound: Callable[[GroupStatistics], float | None] | None = None
    lower_is_better: bool = False
    within_one: bool = True
    two_classes: bool = False
    comparable: bool = True
    outcomes: tuple[str, ...] = BY_CLASS
    in_unit: bool = False
    guessing: tuple[float, float] | None = None
    part: Part | None = None

    def is_of(self, outcome: str) -> bool:
        """Return whether it is a score of this outcome."""
        return not self.outcomes or outcome in self.outcomes


def register(score: Score) -> Score:
    """Add a score to the registry.

    Raises
    ------
    ValueError
        The name is not valid, or another score has it.
    """
    if not _NAME.fullmatch(score.name) or score.name.endswith(("_low", "_high", "_bound")) or score.name in _TAKEN:
        raise ValueError(
            f"{score.name!r} is not a valid name for a score: use lower-case letters, digits and single _; not "
            f"{sorted(_TAKEN)}"
        )
    if (known := _REGISTERED.setdefault(score.name, score)) is not score:
        raise ValueError(f"two scores are named {known.name!r}")
    return score


def registered(listed: Sequence[str]) -> dict[str, Score]:
    """Import the modules that register scores, and return these: those `listed` in this order, then others by name."""
    load_folder(PACKAGE)
    load_folder(OF_OUTCOMES)
    load_extensions(SCORES)
    names = [name for name in listed if name in _REGISTERED]
    return {name: _REGISTERED[name] for name in [*names, *sorted(_REGISTERED.keys() - set(listed))]}


def names_of(scores: Mapping[str, Score], ends: tuple[str, ...] = ("", "_low", "_high", "_bound")) -> Iterator[str]:
    """Yield the names of the numbers of these scores: the score, the ends of its interval, its bound."""
    for name, score in scores.items():
        has = {"": True, "_low": score.interval, "_high": score.interval, "_bound": score.bound}
        yield from (f"{name}{end}" for end in ends if has[end])


def extended(base: Class, fields: Mapping[str, tuple[Any, Any]]) -> Class:
    """Return a frozen dataclass with further fields: name → type and default, or the factory of a default."""
    made = make_dataclass(
        base.__name__,
        [
            (name, kind, field(default_factory=default) if callable(default) else field(default=default))
            for name, (kind, default) in fields.items()
        ],
        bases=(base,),
        frozen=True,
        kw_only=True,
    )
    made.__module__, made.__doc__ = base.__module__, base.__doc__
    return made  # type: ignore[return-value]
