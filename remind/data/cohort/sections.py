"""The base class of the modality sections of cohort.toml: how a file is read, and what sites must agree on.

Every kind of modality has a class of its own (`remind.data.cohort.kinds`). docs/cohorts.md describes the same content
for the people who write such files.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from remind.former_names import moved

Scalar = str | int | float | bool
Name = Annotated[str, Field(min_length=1)]
Broken = Literal["error", "drop"]
Standardise = Literal["train", "given", "none"]

__getattr__ = moved(
    __name__,
    {
        "remind.data.cohort.kinds.table": "TableSection",
        "remind.data.cohort.kinds.series_schema": "SeriesSection",
        "remind.data.cohort.kinds.pictures": "ImageSection VolumeSection",
        "remind.data.cohort.kinds.text": "TextSection",
        "remind.data.cohort.kinds.codes": "CodesSection",
    },
)


class Declared(BaseModel):
    """Base class of every section of cohort.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Section(Declared):
    """Base class of the modality sections; `kind` becomes a Literal of the names that users write.

    Attributes
    ----------
    absent
        Whether no patient of this site has the modality, which is declared because other sites have it.
    file
        The modality's file; None: ``<name>.parquet`` or ``<name>.csv``.
    id
        Column that identifies the patient; None: that of the patients file.
    """

    kind: str
    absent: bool = False
    file: Name | None = None
    id: Name | None = None


def without_repeats(field: str, names: tuple[str, ...]) -> None:
    """Refuse names that occur twice in a field.

    Raises
    ------
    ValueError
        Naming them.
    """
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(f"{field} names {', '.join(twice)} more than once")


def no_file_where_absent(section: Section) -> None:
    """Refuse a file of a modality that is declared absent.

    Raises
    ------
    ValueError
        The section names one.
    """
    if section.absent and section.file is not None:
        raise ValueError("absent = true means that no patient has it: remove file")
