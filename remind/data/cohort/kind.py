"""Kinds of modalities: the class with all methods that the library needs from a kind, and its registry.

A module of `remind.data.cohort.kinds`, or of another package (entry points `remind.extensions`), holds a section of
cohort.toml, a schema, the contents and a `Kind`; docs/extend.md shows a whole one. Whatever reads, checks, writes or
trains asks `kind_of` and names no kind itself. Letters: N patients, P of them in a batch and with the modality, n
patients in a sample.
"""

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.contents import Contents, Integers
from remind.data.cohort.modality_schema import ModalitySchema
from remind.data.cohort.problems import Problem
from remind.data.cohort.sections import Section
from remind.data.cohort.tabular import Source
from remind.data.cohort.wanted import Wanted
from remind.data.files import Sight
from remind.extensions import load_extensions, load_folder

PACKAGE = "remind.data.cohort.kinds"
LISTED = ("table", "series", "image", "volume", "video", "text", "codes")  # only the order of lists for people

SectionT = TypeVar("SectionT", bound=Section)
SchemaT = TypeVar("SchemaT", bound=ModalitySchema)
ContentsT = TypeVar("ContentsT", bound=Contents)
Registered = TypeVar("Registered", bound="type[Kind[Any, Any, Any]]")
Text = NDArray[np.str_]
Floats = NDArray[np.float64]
Columns = dict[str, Any]
ToTensor = Callable[[NDArray[Any]], Any]


@dataclass(frozen=True)
class Seen:
    """Properties of a modality's data, as text that continues the modality's description, and warnings about them."""

    words: str = ""
    warnings: tuple[str, ...] = ()


class Members(NamedTuple):
    """Things that a patient has or lacks: patient i has the members ``offsets_N1[i] : offsets_N1[i + 1]``.

    Attributes
    ----------
    member_O
        int64, index into `names`.
    words
        What a message says before the name of a member.
    """

    offsets_N1: Integers
    member_O: Integers
    names: tuple[str, ...]
    words: str = "whether a patient has"


class Measured(NamedTuple):
    """The O values of one column or item, over all patients who have one.

    Attributes
    ----------
    name
        Of the column or item.
    patient_O, value_O
        Position of the patient, ascending, and the value, float64.
    levels
        Where values are positions of levels: the levels.
    """

    name: str
    patient_O: Integers
    value_O: Floats
    levels: tuple[str, ...] = ()


class Kind(ABC, Generic[SectionT, SchemaT, ContentsT]):
    """One kind of modality: from the rows of a file to the arrays that an encoder receives.

    Attributes
    ----------
    section, schema, contents
        Its classes. The section's `kind` lists the names that users write.
    """

    section: ClassVar[type[Section]]
    schema: ClassVar[type[ModalitySchema]]
    contents: ClassVar[type[Contents]]
    contents_base: ClassVar[type[Contents]] = Contents

    # Reading

    @abstractmethod
    def read(self, source: Source, wanted: Wanted[SectionT]) -> tuple[SchemaT, ContentsT] | None:
        """Read a modality from its open file; None if nothing can be read. Problems are reported to the source."""

    @abstractmethod
    def absent(self, name: str, section: SectionT, n: int, problems: list[Problem]) -> tuple[SchemaT, ContentsT]:
        """Return a modality that none of the site's n patients has: its declared schema, and empty contents."""

    def start(self, section: SectionT) -> str | None:
        """Return the column of the patients file from which the modality counts its time; None if there is none."""
        return None

    # Checking and describing

    @abstractmethod
    def describe(self, schema: SchemaT) -> str:
        """Describe the content in words, beginning with the kind."""

    def inferred(self, section: SectionT) -> tuple[str, ...]:
        """Return fields that cohort.toml should declare before other sites join, and leaves to the file."""
        return ()

    def suspicious(self, schema: SchemaT, contents: ContentsT, outcome: frozenset[str]) -> list[str]:
        """Return warnings about contents that some patients have; `outcome`: columns of the label and the split."""
        return []

    def look(self, schema: SchemaT, contents: ContentsT, patient_id_N: Text, sights: Mapping[Path, Sight]) -> Seen:
        """Inspect the patients' data; `sights`: what the examination of the files has seen."""
        return Seen()

    def features(self, schema: SchemaT, contents: ContentsT) -> Iterator[tuple[str, Floats]]:
        """Yield features that may leak the label: a description, and the patients' values (n,), NaN = no value."""
        yield from ()

    def members(self, schema: SchemaT, contents: ContentsT) -> Members | None:
        """Return members whose presence may leak the label, if they are too many for `features`."""
        return None

    def summary_names(self, schema: SchemaT) -> tuple[str, ...]:
        """Return names of the numbers of `summary`."""
        return ()

    def summary(self, schema: SchemaT, contents: ContentsT) -> Floats:
        """Return a few summary numbers of each patient, (N, F), NaN = none, for yardsticks such as boosted trees."""
        return np.empty((len(contents.present()), 0))

    def measured(self, schema: SchemaT, contents: ContentsT) -> Iterator[Measured]:
        """Yield the values whose training ranges reveal unusual values of a patient; by default those of `summary`."""
        for name, value_N in zip(self.summary_names(schema), self.summary(schema, contents).T, strict=True):
            patient_O = np.flatnonzero(~np.isnan(value_N))
            yield Measured(name, patient_O, np.asarray(value_N[patient_O], dtype=np.float64))

    def batch_rows(self, schema: SchemaT, inputs: Any) -> NDArray[np.float32] | None:
        """Return `summary` of a batch from `inputs`, (P, F), for models of tables; None if it cannot be computed."""
        return None

    # Requests of `remind-site serve`

    def form(self, schema: SchemaT) -> dict[str, Any] | None:
        """Return the JSON schema of one patient's values in a request; None: the kind has no form in JSON."""
        return None

    def of_request(self, schema: SchemaT, given: Any) -> Any:
        """Check the values of one patient in a request, and return them in the form that `of_requests` needs.

        Raises
        ------
        ValueError
            The values do not follow `form`; the message has the position and the remedy.
        """
        raise NotImplementedError

    def of_requests(self, schema: SchemaT, value_N: Sequence[Any]) -> ContentsT:
        """Return the contents of N patients from what `of_request` returned; None: the patient lacks the modality."""
        raise NotImplementedError

    # Writing

    @abstractmethod
    def columns(self, folder: Path, patient_id_N: Text, schema: SchemaT, contents: ContentsT) -> Columns:
        """Return the columns of the modality's file; files of patients are written below `folder`.

        Raises
        ------
        UserError
            A file of the cohort can no longer be read.
        """

    @abstractmethod
    def fields(self, schema: SchemaT, contents: ContentsT) -> dict[str, Any]:
        """Return the fields of the section of cohort.toml that `columns` needs, other than its kind."""

    # Training

    @abstractmethod
    def inputs(self, schema: SchemaT, contents: ContentsT, tensor: ToTensor) -> Callable[[Integers], Any]:
        """Return the function from positions (P,) of patients who have the modality to the encoder's input.

        Parameters
        ----------
        tensor
            Converts an array to a tensor on the site's device, floating-point numbers to the run's type.
        """


TOGETHER = (("form", "of_request", "of_requests"), ("summary_names", "summary"))  # hooks that need each other
_KINDS: dict[str, Kind[Any, Any, Any]] = {}


def register(kind: Registered) -> Registered:
    """Make a kind available under the names that its section lists.

    Raises
    ------
    TypeError
        The kind lacks a method or a class, defines a hook without those that it needs, or its section and schema do not
        list the same names.
    ValueError
        Another kind has one of the names.
    """
    if inspect.isabstract(kind):
        lacking = ", ".join(sorted(getattr(kind, "__abstractmethods__", ())))
        raise TypeError(f"kind of modality {kind.__name__} must define {lacking}")
    for hooks in TOGETHER:
        own = [name for name in hooks if getattr(kind, name) is not getattr(Kind, name)]
        if own and len(own) < len(hooks):
            lacking = ", ".join(name for name in hooks if name not in own)
            raise TypeError(f"kind of modality {kind.__name__} defines {', '.join(own)}, and must define {lacking} too")
    for attribute, base in (("section", Section), ("schema", ModalitySchema), ("contents", kind.contents_base)):
        if not issubclass(getattr(kind, attribute, object), base):
            raise TypeError(f"kind of modality {kind.__name__}: {attribute} must be a class of {base.__name__}")
    names, again = (get_args(of.model_fields["kind"].annotation) for of in (kind.section, kind.schema))
    if not names or set(names) != set(again):
        raise TypeError(
            f"kind of modality {kind.__name__}: section and schema must give kind the same Literal, "
            f"not {list(names)} and {list(again)}"
        )
    for name in names:
        known = type(_KINDS[name]) if name in _KINDS else None
        if known is not None and (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
            raise ValueError(f"two kinds of modalities are named {name!r}: {known.__module__} and {kind.__module__}")
    _KINDS.update(dict.fromkeys(names, kind()))
    return kind


Read = Callable[[Source, Any], tuple[ModalitySchema, Contents] | None]


def reader(name: str) -> Callable[[Read], Read]:
    """Make a function the reader of a kind that exists, in place of its own `Kind.read`.

    Raises
    ------
    KeyError
        There is no such kind.
    """
    base = type(kinds()[name])

    def add(read: Read) -> Read:
        _KINDS[name] = type(base.__name__, (base,), {"read": lambda _, source, wanted: read(source, wanted)})()
        return read

    return add


def kinds() -> Mapping[str, Kind[Any, Any, Any]]:
    """Return every kind by the name that users write, in the order of docs/cohorts.md; others follow by name."""
    load_folder(PACKAGE)
    load_extensions()
    names = [name for name in LISTED if name in _KINDS]
    return {name: _KINDS[name] for name in [*names, *sorted(_KINDS.keys() - set(LISTED))]}


def kind_of(described: Section | ModalitySchema) -> Kind[Any, Any, Any]:
    """Return the kind of a section or of a schema."""
    found = _KINDS.get(described.kind)
    return kinds()[described.kind] if found is None else found


def kind_code(schema: ModalitySchema) -> tuple[str, ...]:
    """Return a digest of the module of another package's kind, so that no cache outlives a change of its code.

    Empty for our own kinds, whose code `verdicts.readers_code` covers.
    """
    return _code_of(type(kind_of(schema)))


@cache
def _code_of(kind: type[Any]) -> tuple[str, ...]:
    source = inspect.getsourcefile(kind)
    if kind.__module__.startswith(f"{PACKAGE}.") or source is None:
        return ()
    return (hashlib.sha256(Path(source).read_bytes()).hexdigest(),)
