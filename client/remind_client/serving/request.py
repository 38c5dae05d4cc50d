"""The form of a request: patients as JSON, by modality. `patients` reads the values.

If a patient does not have this form, only this patient is refused.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from remind.data.cohort.kind import kind_of
from remind.data.cohort.kinds.codes import CodesSchema
from remind.data.cohort.kinds.pictures import ImageSchema, VolumeSchema
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.cohort.kinds.table import TableSchema
from remind.data.cohort.kinds.text import TextSchema
from remind.data.cohort.schema import CohortSchema, ModalitySchema

Json = dict[str, Any]


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Patient(_Form):
    """One patient, or one visit of a patient."""

    id: str | int = Field(description="returned with the answer; not logged")
    modalities: dict[str, Any] = Field(
        description="modality → its values: a table as {column: value}, null = missing; a series as a list of "
        "{hours, item, value}; codes as a list; a note as text; a picture as {base64, name} or {path}. A modality that "
        "is absent is missing."
    )


class Request(_Form):
    """One patient or a batch."""

    patients: list[Any] = Field(description="each as in the schema `Patient`; GET /schema says what this model takes")
    fingerprint: str = Field(
        "", description="schema that the caller expects; the service answers 409 if the model has another; empty: any"
    )
    next_test: bool = Field(
        False, description="true: also estimate what each modality that a patient lacks would change"
    )


OWN = (
    TableSchema,
    SeriesSchema,
    CodesSchema,
    TextSchema,
    ImageSchema,
    VolumeSchema,
)  # kinds with a form here


def without_form(schema: CohortSchema) -> list[str]:
    """Return the modalities that a request cannot contain: another package's kinds without a JSON form."""
    return [m.name for m in schema.modalities if not isinstance(m, OWN) and kind_of(m).form(m) is None]


def form_of(schema: CohortSchema, most_patients: int) -> Json:
    """Return the JSON schema of requests to a model of this schema."""
    modalities = {modality.name: _form(modality) for modality in schema.modalities}
    patient = {
        "type": "object",
        "additionalProperties": False,
        "required": ["id", "modalities"],
        "properties": {
            "id": {"type": ["string", "integer"]},
            "modalities": {
                "type": "object",
                "additionalProperties": False,
                "minProperties": 1,
                "properties": modalities,
            },
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"patients of {schema.name}",
        "type": "object",
        "additionalProperties": False,
        "required": ["patients"],
        "properties": {
            "patients": {"type": "array", "minItems": 1, "maxItems": most_patients, "items": patient},
            "fingerprint": {"const": schema.fingerprint},
            "next_test": {"type": "boolean"},
        },
    }


def _form(modality: ModalitySchema) -> Json:
    if isinstance(modality, TableSchema):
        columns = {c: _column(modality.categories.get(c)) for c in modality.columns}
        return {"type": "object", "additionalProperties": False, "properties": columns}
    if isinstance(modality, SeriesSchema):
        observation = {
            "hours": {"type": "number", "minimum": 0, "maximum": modality.horizon_hours},
            "item": {"enum": list(modality.items)},
            "value": {"type": ["number", "null"]},
        }
        entry = {"type": "object", "additionalProperties": False, "required": ["hours", "item", "value"]}
        return {"type": "array", "items": entry | {"properties": observation}}
    if isinstance(modality, CodesSchema):
        code: Json = {"enum": list(modality.vocabulary)} if modality.vocabulary else {"type": ["string", "integer"]}
        return {"type": "array", "items": code}
    if isinstance(modality, TextSchema):
        return {"type": "string"}
    if isinstance(modality, ImageSchema | VolumeSchema):
        return _picture(modality)
    return kind_of(modality).form(modality) or {}


def _column(levels: tuple[str, ...] | None) -> Json:
    return {"enum": [*levels, None]} if levels else {"type": ["number", "null"]}


def _picture(modality: ModalitySchema) -> Json:
    what = "an image" if isinstance(modality, ImageSchema) else "a volume or video"
    inside = {
        "type": "object",
        "additionalProperties": False,
        "required": ["base64"],
        "properties": {"base64": {"type": "string"}, "name": {"type": "string"}},
    }
    by_path = {
        "type": "object",
        "additionalProperties": False,
        "required": ["path"],
        "properties": {"path": {"type": "string"}},
    }
    return {
        "description": f"{what}: the file's bytes, or its path in the folder of --files",
        "oneOf": [inside, by_path],
    }
