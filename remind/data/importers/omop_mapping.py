"""The mapping file of `remind data import omop`: which visits, which outcome, which concepts are which modality.

Hospitals with one CDM share this file, so that their cohorts have one schema.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from remind.errors import UserError, several
from remind.invalid import invalid

Concept = Annotated[int, Field(gt=0)]
Concepts = Annotated[tuple[Concept, ...], Field(min_length=1)]
Name = Annotated[str, Field(min_length=1)]
NAME = re.compile(r"[A-Za-z0-9_-]+")
DAYS = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 14.0, 21.0, 30.0)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Visits(_Section):
    """Which visits are examples.

    Attributes
    ----------
    concepts
        ``visit_concept_id`` of the visits: 9201 is a stay in hospital, 262 one that began in the emergency room.
    hours
        From a visit's start until the index time. What is predicted lies after it, what is read before it.
    first
        Take each person's first visit only.
    sites
        Column of ``visit_occurrence`` with the hospital, such as ``care_site_id``; empty: one hospital.
    """

    concepts: Concepts = (9201, 262)
    hours: Annotated[float, Field(gt=0)] = 48.0
    first: bool = False
    sites: str = ""


class Label(_Section):
    """The outcome.

    Attributes
    ----------
    kind
        ``death``: before the visit ends; ``death-later``: within `days` of the index time; ``readmission``: another
        such visit within `days` of the end; ``length-of-stay``: days until the end, a death censors (survival);
        ``conditions``: the conditions of this visit (several labels).
    edges
        Ends of the intervals of ``length-of-stay``, in days after the visit's start.
    conditions
        Names and concepts of ``conditions``.
    """

    kind: Literal["death", "death-later", "readmission", "length-of-stay", "conditions"]
    days: Annotated[int, Field(gt=0)] = 30
    edges: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2)] = DAYS
    conditions: dict[Name, Concepts] = {}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.kind == "conditions") != bool(self.conditions):
            raise ValueError('conditions go with kind = "conditions": name two or more, each with its concepts')
        if self.kind == "conditions" and len(self.conditions) < 2:
            raise ValueError("conditions: name two or more; for one, use a cohort of classes")
        return self


class Item(_Section):
    """An item of a series: its concepts, units and bounds.

    Attributes
    ----------
    units
        ``unit_concept_id`` → factor into the item's unit. Values of another unit are left out, those without a unit are
        taken as they are. Empty: units are not read.
    low, high
        Bounds in the item's unit; other values are left out.
    """

    concepts: Concepts
    units: dict[str, float] = {}
    low: float | None = None
    high: float | None = None

    @field_validator("units")
    @classmethod
    def _are_concepts(cls, units: dict[str, float]) -> dict[str, float]:
        if wrong := [unit for unit in units if not unit.isdecimal()]:
            raise ValueError(f"{wrong[0]!r} is no unit_concept_id: write the number, such as 8840 for mg/dL")
        return units


class Series(_Section):
    """``measurement`` as a series."""

    table: Literal["measurement"]
    items: Annotated[dict[Name, Item], Field(min_length=1)]


class Codes(_Section):
    """Concepts as a set of codes.

    Of drugs, those begun until the index time in this visit; of conditions, those of before this visit, because
    conditions of a visit are usually coded at its end.
    """

    table: Literal["drug_exposure", "condition_occurrence"]
    vocabulary: tuple[Concept, ...] = ()


class Notes(_Section):
    """Notes of this visit until the index time, the newest first; `concepts` are of ``note_type_concept_id``."""

    table: Literal["note"]
    concepts: tuple[Concept, ...] = ()


class Person(_Section):
    """Age in years at the visit, and gender."""

    table: Literal["person"]


Modality = Annotated[Series | Codes | Notes | Person, Field(discriminator="table")]


class Mapping(_Section):
    """The whole file."""

    name: Name
    visits: Visits = Visits()
    label: Label
    modalities: Annotated[dict[str, Modality], Field(min_length=1)]

    @field_validator("modalities")
    @classmethod
    def _named(cls, modalities: dict[str, Any]) -> dict[str, Any]:
        if wrong := [name for name in modalities if not NAME.fullmatch(name)]:
            raise ValueError(f"{wrong[0]!r}: a name consists of letters, digits, - and _")
        return modalities


def read_mapping(path: Path) -> Mapping:
    """Read a mapping file.

    Raises
    ------
    UserError
        It cannot be read, or lists every field that is wrong.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"--mapping {path}: cannot be read: {why}; write it as docs/importing.md shows") from None
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        raise several(f"--mapping {path} is not a valid mapping", invalid(error, Mapping)) from None
