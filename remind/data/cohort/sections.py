"""The modality sections of cohort.toml, one class per kind: how a file is read, and what sites must agree on.

docs/cohorts.md describes the same content for the people who write such files.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remind.data.cohort.text import declared_text

Scalar = str | int | float | bool
Name = Annotated[str, Field(min_length=1)]
Broken = Literal["error", "drop"]
Side = Annotated[int, Field(ge=1, le=4096)]
Width = Annotated[float, Field(gt=0)]


class Declared(BaseModel):
    """Base class of every section of cohort.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class TableSection(Declared):
    """A modality with one row per patient."""

    kind: Literal["table"]
    absent: bool = False
    file: Name | None = None
    id: Name | None = None
    columns: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    exclude: tuple[Name, ...] = ()
    categories: dict[Name, Annotated[tuple[Scalar, ...], Field(min_length=1)]] = {}
    mean: dict[Name, float] = {}
    std: dict[Name, Annotated[float, Field(gt=0)]] = {}
    standardise: Literal["train", "given", "none"] = "train"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _without_repeats("columns", self.columns or ())
        for column, levels in self.categories.items():
            _without_repeats(f"categories.{column}", tuple(declared_text(v) for v in levels))
        if self.standardise != "given" and (self.mean or self.std):
            raise ValueError('mean and std are only used with standardise = "given"; add it or remove them')
        if set(self.mean) != set(self.std):
            raise ValueError(f"mean and std name different columns: {sorted(set(self.mean) ^ set(self.std))}")
        if self.columns is not None and self.exclude:
            raise ValueError("columns and exclude are both given; columns is enough")
        if self.absent and (self.file is not None or self.columns is None):
            raise ValueError("absent = true needs columns, so that other sites know them, and no file")
        return self


class SeriesSection(Declared):
    """A modality with many observations per patient: (time, item, value)."""

    kind: Literal["series"]
    absent: bool = False
    file: Name | None = None
    id: Name | None = None
    time: Name = "time"
    time_unit: Literal["second", "minute", "hour", "day"] | None = None
    start: Name | None = None
    item: Name = "item"
    value: Name = "value"
    items: Annotated[tuple[Scalar, ...], Field(min_length=1)] | None = None
    exclude: tuple[Scalar, ...] = ()
    horizon: Annotated[float, Field(gt=0)] | None = None
    clip: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _without_repeats("items and exclude", tuple(declared_text(v) for v in (*(self.items or ()), *self.exclude)))
        if self.start is not None and self.time_unit is not None:
            raise ValueError("start makes hours of dates: leave time_unit out")
        if self.clip and self.horizon is None:
            raise ValueError("clip = true needs a horizon to clip at")
        if self.absent and (self.file is not None or self.items is None or self.horizon is None):
            raise ValueError("absent = true needs items and horizon, so that other sites know them, and no file")
        return self


class ImageSection(Declared):
    """One picture per patient: a table of paths to PNG, JPEG or DICOM files."""

    kind: Literal["image"]
    absent: bool = False
    file: Name | None = None
    id: Name | None = None
    path: Name = "path"
    size: tuple[Side, Side] = (224, 224)
    channels: Literal[1, 3] = 3
    resize: bool = True
    window: tuple[float, Width] | None = None
    broken: Broken = "error"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _no_file_where_absent(self)
        return self


class VolumeSection(Declared):
    """One stack of slices (volume) or frames (video) per patient: a table of paths to NIfTI, DICOM or .npy files."""

    kind: Literal["volume", "video"]
    absent: bool = False
    file: Name | None = None
    id: Name | None = None
    path: Name = "path"
    size: tuple[Side, Side, Side]
    channels: Literal[1, 3] = 1
    resize: bool = False
    window: tuple[float, Width] | None = None
    broken: Broken = "error"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _no_file_where_absent(self)
        return self


class TextSection(Declared):
    """Notes: texts in a column, or a column of paths to text files."""

    kind: Literal["text"]
    absent: bool = False
    file: Name | None = None
    id: Name | None = None
    text: Name | None = None
    path: Name | None = None
    order: Name | None = None
    broken: Broken = "error"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _no_file_where_absent(self)
        if self.text is not None and self.path is not None:
            raise ValueError("text and path are both given; the notes are either in the table or in files")
        if self.path is not None and self.order is not None:
            raise ValueError("order joins several rows of text; notes in files are one file each")
        return self


class CodesSection(Declared):
    """Diagnoses, procedures, drugs: one row per patient and code."""

    kind: Literal["codes"]
    absent: bool = False
    file: Name | None = None
    id: Name | None = None
    code: Name = "code"
    vocabulary: Annotated[tuple[Scalar, ...], Field(min_length=1)] | None = None
    prefixes: tuple[Annotated[int, Field(ge=1, le=20)], ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _no_file_where_absent(self)
        _without_repeats("vocabulary", tuple(declared_text(v) for v in self.vocabulary or ()))
        if self.vocabulary is not None and self.prefixes:
            raise ValueError("prefixes are for codes without a vocabulary; list the prefixes in it instead")
        return self


Section = TableSection | SeriesSection | ImageSection | VolumeSection | TextSection | CodesSection
ModalitySection = Annotated[Section, Field(discriminator="kind")]
KINDS: dict[str, type[Section]] = {
    "table": TableSection,
    "series": SeriesSection,
    "image": ImageSection,
    "volume": VolumeSection,
    "video": VolumeSection,
    "text": TextSection,
    "codes": CodesSection,
}


def _without_repeats(field: str, names: tuple[str, ...]) -> None:
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(f"{field} names {', '.join(twice)} more than once")


def _no_file_where_absent(section: Section) -> None:
    if section.absent and section.file is not None:
        raise ValueError("absent = true means that no patient has it: remove file")
