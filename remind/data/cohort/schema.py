"""The schema that all sites of a federation must share: classes, modalities, columns, levels, items.

File names, id columns and the cohort's name may differ between sites and are not part of it.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from remind.data.cohort.declaration import CohortFile
from remind.data.cohort.problems import listed

__all__ = ["CohortFile", "CohortSchema", "ModalitySchema", "difference"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TableSchema(_Frozen):
    """A modality with one row of F columns per patient.

    Attributes
    ----------
    columns
        The F columns, in the order of `cohort.Table.values_NF`.
    categories
        Levels of the categorical columns, as text (``1``, ``1.0`` and ``"1"`` are the level ``"1"``); the rest are
        numeric.
    mean, std
        The given statistics of every numeric column if `standardise` is ``"given"``; else empty.
    standardise
        ``"train"``: from the site's training patients; ``"given"``; ``"none"``.
    """

    kind: Literal["table"] = "table"
    name: str
    columns: tuple[str, ...]
    categories: dict[str, tuple[str, ...]] = {}
    mean: dict[str, float] = {}
    std: dict[str, float] = {}
    standardise: Literal["train", "given", "none"] = "train"

    @property
    def numeric(self) -> tuple[str, ...]:
        """Return the numeric columns, in order."""
        return tuple(c for c in self.columns if c not in self.categories)


class SeriesSchema(_Frozen):
    """A modality with observations (time, item, value); times lie between 0 and `horizon_hours`."""

    kind: Literal["series"] = "series"
    name: str
    items: tuple[str, ...]
    horizon_hours: float


class ImageSchema(_Frozen):
    """A modality with one picture per patient; `size` is the (height, width) that encoders receive, in pixels."""

    kind: Literal["image"] = "image"
    name: str
    size: tuple[int, int]
    channels: Literal[1, 3]


class VolumeSchema(_Frozen):
    """A modality with one stack of pictures per patient; `size` is (slices or frames, height, width)."""

    kind: Literal["volume", "video"] = "volume"
    name: str
    size: tuple[int, int, int]
    channels: Literal[1, 3]


class TextSchema(_Frozen):
    """A modality with one note per patient."""

    kind: Literal["text"] = "text"
    name: str


class CodesSchema(_Frozen):
    """A modality with a set of codes per patient.

    Attributes
    ----------
    vocabulary
        The codes, in order. If empty, any code is accepted and its hash identifies it.
    prefixes
        Lengths: the first so many characters of a code also count as a code (I21 of I21.4).
    """

    kind: Literal["codes"] = "codes"
    name: str
    vocabulary: tuple[str, ...] = ()
    prefixes: tuple[int, ...] = ()


ModalitySchema = TableSchema | SeriesSchema | ImageSchema | VolumeSchema | TextSchema | CodesSchema


class CohortSchema(_Frozen):
    """Classes and modalities of a cohort; the order of `modalities` is the bit order of the groups."""

    name: str
    classes: tuple[str, ...]
    modalities: tuple[Annotated[ModalitySchema, Field(discriminator="kind")], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the m modalities, in bit order."""
        return tuple(m.name for m in self.modalities)

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the canonical JSON of everything that sites must share."""
        shared = self.describe()
        del shared["name"]
        return hashlib.sha256(json.dumps(shared, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return JSON-able content that ``CohortSchema.model_validate`` reads back."""
        return self.model_dump(mode="json")


def difference(a: CohortSchema, b: CohortSchema) -> list[str]:
    """Describe how two schemas differ, `a`'s side first; empty exactly if their fingerprints are equal."""
    lines = []
    if a.classes != b.classes:
        lines.append(f"classes: {listed(a.classes)} against {listed(b.classes)}")
    if set(a.names) != set(b.names):
        lines.append(f"modalities: {_sets(a.names, b.names)}")
    elif a.names != b.names:
        lines.append(f"order of the modalities: {listed(a.names)} against {listed(b.names)}")
    of_b = {modality.name: modality for modality in b.modalities}
    for ours in a.modalities:
        if ours.name in of_b:
            lines += _modality_difference(ours, of_b[ours.name])
    return lines


def _modality_difference(a: ModalitySchema, b: ModalitySchema) -> list[str]:
    if a.kind != b.kind:
        return [f"{a.name}: kind {a.kind} against {b.kind}"]
    lines = []
    for field in type(a).model_fields:
        ours, theirs = getattr(a, field), getattr(b, field)
        if ours == theirs:
            continue
        if isinstance(ours, tuple):
            same = set(ours) == set(theirs)
            words = f"order {listed(ours)} against {listed(theirs)}" if same else _sets(ours, theirs)
            lines.append(f"{a.name}, {field}: {words}")
        elif isinstance(ours, dict):
            lines += [
                f"{a.name}, {field} of {key}: {_shown(ours.get(key))} against {_shown(theirs.get(key))}"
                for key in dict.fromkeys([*ours, *theirs])
                if ours.get(key) != theirs.get(key)
            ]
        else:
            lines.append(f"{a.name}, {field}: {ours} against {theirs}")
    return lines


def _sets(a: tuple[str, ...], b: tuple[str, ...]) -> str:
    parts = [
        ("only the first has", [x for x in a if x not in b]),
        ("only the second has", [x for x in b if x not in a]),
    ]
    return "; ".join(f"{words} {listed(names)}" for words, names in parts if names)


def _shown(value: Any) -> str:
    return "none" if value is None else listed(value) if isinstance(value, tuple) else str(value)
