"""The interface of outcomes, and their registry. Nothing here needs torch until a loss is computed.

Shapes: B or N patients, R rows of the patients file, T numbers of a target, W outputs of a model's head, E experts,
G groups, V values of a prediction.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from remind.errors import UserError
from remind.extensions import load_extensions, load_folder
from remind.metrics.statistics import GroupStatistics

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = "remind.outcomes"
LISTED = (
    "classes",
    "ordinal",
    "multilabel",
    "regression",
    "survival",
    "segmentation",
)  # only the order of lists for people
DEFAULT = "classes"  # of a section [label] without kind
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Name = Annotated[str, Field(min_length=1)]
Class = TypeVar("Class", bound="type[Outcome]")
_OUTCOMES: dict[str, "type[Outcome]"] = {}


@dataclass(frozen=True)
class Column:
    """A column of the patients file that holds a part of the label.

    Attributes
    ----------
    name, field
        The column, and the field of cohort.toml that names it.
    names, names_field
        The names that it may hold, or their numbers 0, 1, …, and the field of cohort.toml that lists them; None: it
        holds numbers.
    low, high
        Bounds of the numbers, themselves included; None: none.
    bounds
        Where the user changes the bounds, for the message about a number beyond them.
    paths
        Whether it holds paths of files.
    """

    name: str
    field: str
    names: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None
    bounds: str = ""
    names_field: str = "label.classes"
    paths: bool = False


@dataclass(frozen=True)
class MaskForm:
    """What an outcome that is a mask expects of each patient's file.

    Attributes
    ----------
    size
        (D, H, W) of the mask, and of each volume.
    values
        Numbers other than 0 that a voxel may have, ascending.
    regions
        R, logits per voxel.
    """

    size: tuple[int, int, int]
    values: tuple[int, ...]
    regions: int


@dataclass(frozen=True, eq=False)
class Encoded:
    """Labels as arrays.

    Attributes
    ----------
    label_R
        Stratum of each row, −1 without a label. Of an outcome by class it is the class, and the target itself.
    target_RT
        Target of each row where the stratum is not all of it; anything in a row without a label.
    file_R
        Objects: the path of the file that holds the target, None without one; None: targets are in no files.
    """

    label_R: Integers
    target_RT: Floats | None = None
    file_R: NDArray[np.object_] | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """What was measured of B patients besides the model's outputs.

    Attributes
    ----------
    group_B, label_B
        Group and stratum.
    target_BT
        Target; None where the stratum is the target. Of a mask the numbers of its voxels.
    loss_B, open_B, use_BE
        The objective's loss, the share of open gates, and the weights of experts (None: no experts).
    """

    group_B: Integers
    label_B: Integers
    target_BT: NDArray[Any] | None
    loss_B: Floats
    open_B: Floats
    use_BE: Floats | None = None


@dataclass(frozen=True)
class Sides:
    """Words for the two sides of which a score that ranks needs patients each.

    Attributes
    ----------
    each
        Completes "10 patients …", of either side: "of each of two classes".
    one
        Completes "fewer than 10 patients in total or …": "of one class".
    """

    each: str
    one: str


class LabelSection(BaseModel):
    """Base class of the section ``[label]`` of cohort.toml; `kind` becomes a Literal of the outcome's name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    kind: str
    missing: Literal["error", "drop"] = "error"

    @property
    @abstractmethod
    def outcome(self) -> "Outcome":
        """The record that sites share."""

    @property
    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """Columns of the patients file, in the order in which `Outcome.encode` takes them."""

    @classmethod
    @abstractmethod
    def of(cls, outcome: Any) -> Self:
        """Return the section of a cohort in the layout of `remind.data.synthetic.write`."""


class Outcome(BaseModel):
    """What sites must share of an outcome, and everything that follows from it.

    Attributes
    ----------
    section
        Its section of cohort.toml.
    by_class
        Whether each patient has one of C classes: then statistics hold a confusion table and the histograms of classes.
    chief
        The score that is shown first.
    sides
        Words for the sides whose patients `remind.metrics.aggregates.by_class` counts; None: patients are one number.
    undefined
        Example of a score that some patients do not determine; completes "undefined, such as …".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    section: ClassVar[type[LabelSection]]
    by_class: ClassVar[bool] = False
    chief: ClassVar[str]
    title: ClassVar[str]
    sides: ClassVar[Sides | None] = None
    undefined: ClassVar[str] = "a correlation of one patient"

    kind: str

    @property
    @abstractmethod
    def width(self) -> int:
        """W, numbers that the model's head gives per patient."""

    @property
    @abstractmethod
    def strata(self) -> tuple[str, ...]:
        """Names of the strata that splits balance and tables count: of an outcome by class, the classes."""

    @property
    @abstractmethod
    def chance_loss(self) -> float:
        """Mean loss of a model that knows nothing, in nats: the unit of ``federation.max-loss``."""

    @property
    def targets(self) -> int:
        """T, numbers of a target; 0 if strata tell all, or if targets are in files."""
        return 0

    @property
    def mask(self) -> MaskForm | None:
        """Form of the files that hold the targets, if these are masks: then the model has a dense head."""
        return None

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the V numbers of a prediction; none of an outcome by class, which has probabilities."""
        return ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of a target that have scores of their own (`Score.part`)."""
        return ()

    @property
    def spread(self) -> tuple[float, str]:
        """Size and name of the unit of scores in the target's own unit (`Score.in_unit`): about how patients differ."""
        return 1.0, ""

    @property
    def sums(self) -> int:
        """Length of `GroupStatistics.sums_S`."""
        return 0

    @property
    def histograms(self) -> int:
        """Number of score histograms."""
        return 0

    @abstractmethod
    def encode(self, columns: Sequence[NDArray[Any]]) -> Encoded:
        """Return labels from the columns (R,) of the section.

        A column of names holds codes, −1 = empty; one of numbers floats, NaN = empty; one of paths objects, None =
        empty.
        """

    @abstractmethod
    def decode(self, label_N: Integers, target_NT: Floats | None) -> dict[str, list[Any]]:
        """Return the columns of the patients file that `section.of` declares."""

    @abstractmethod
    def loss(self, raw_BW: "Tensor", target: "Tensor") -> "Tensor":
        """Return −ln of each patient's likelihood, (B,), perhaps without a constant: never negative.

        `target` is (B, T), or the classes (B,) of an outcome by class.
        """

    @abstractmethod
    def collect(self, seen: Seen, raw_BW: Floats, temperature: float = 1.0) -> dict[int, GroupStatistics]:
        """Return the statistics of each group among B patients."""

    @classmethod
    @abstractmethod
    def made(cls, score_N: Floats, rng: np.random.Generator) -> tuple["Outcome", Encoded]:
        """Return an outcome of a synthetic cohort, and labels that follow from a score of variance about 1."""

    @abstractmethod
    def alike(self, label_N: Integers, target_NT: Floats | None) -> str:
        """Say what all N ≥ 1 patients share, if nothing can be learned from them; empty if something can.

        It completes the sentence "all patients …".
        """

    @abstractmethod
    def lacking(self, label_N: Integers, target_NT: Floats | None) -> list[str]:
        """Return warnings about what these N ≥ 1 patients do not show of the outcome."""

    def predict(self, raw_NW: Floats) -> Floats:
        """Return the numbers (N, V) of a prediction."""
        return np.zeros((len(raw_NW), 0))

    def problem(self, statistics: GroupStatistics) -> str:
        """Return why no patients can have these statistics; empty if some can."""
        if statistics.outcome != self.kind:
            return f"statistics are of the outcome {statistics.outcome}, not {self.kind}"
        if len(statistics.sums_S) != self.sums:
            return f"statistics have {len(statistics.sums_S)} sums, not {self.sums}"
        return ""

    def describe(self) -> str:
        """Describe the outcome in a line."""
        return self.title


def require(outcome: Outcome, what: str, by_class: bool = False) -> None:
    """Refuse what needs classes of a model that predicts something else.

    Parameters
    ----------
    by_class
        Whether probabilities of ordered classes are enough.

    Raises
    ------
    UserError
        It needs classes.
    """
    if outcome.kind != "classes" and not (by_class and outcome.by_class):
        raise UserError(
            f"{what}: works for classes only now; here the label is {outcome.describe()} (kind = {outcome.kind!r} in "
            "cohort.toml); leave it out, or use a model of classes"
        )


def unsupported(kind: str, least: int, of_each: int) -> str:
    """Say which patients of this kind of outcome are too few for a rank: "fewer than 30 patients …"."""
    sides = kind_of(kind).sides
    return f"fewer than {least} patients" + (f", or not {of_each} {sides.each}" if sides else "")


def kind_of(name: str) -> "type[Outcome]":
    """Return the outcome of this name; the interface itself, with its general words, if it is not installed here."""
    return outcomes().get(name, Outcome)


def register(outcome: Class) -> Class:
    """Add an outcome to the registry, by the Literal of its `kind`.

    Raises
    ------
    ValueError
        Another one has that name.
    """
    added: type[Outcome] = outcome
    (name,) = get_args(added.model_fields["kind"].annotation)
    known = _OUTCOMES.setdefault(name, outcome)
    if (known.__module__, known.__qualname__) != (outcome.__module__, outcome.__qualname__):
        raise ValueError(f"two outcomes are named {name!r}: {known.__module__} and {outcome.__module__}")
    return outcome


def outcomes() -> Mapping[str, type[Outcome]]:
    """Return every outcome by the name that users write, in the order of docs/cohorts.md; others follow by name."""
    load_folder(PACKAGE)
    load_extensions()
    names = [name for name in LISTED if name in _OUTCOMES]
    return {name: _OUTCOMES[name] for name in [*names, *sorted(_OUTCOMES.keys() - set(LISTED))]}
