"""Complete a cohort.toml by the schema of a trained model, and report contradictions between the two.

The new patients of a hospital come with the cohort.toml of its training cohort, or with a shorter one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remind.data.cohort.declaration import CohortFile
from remind.data.cohort.kind import kinds
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.cohort.kinds.table import TableSchema
from remind.data.cohort.problems import Problem, listed, suggest
from remind.data.cohort.row_counters import row_numbers
from remind.data.cohort.rows import DataFile
from remind.data.cohort.schema import CohortSchema, ModalitySchema
from remind.data.cohort.sections import Section
from remind.data.cohort.tabular import Source
from remind.data.cohort.text import declared_text

TOML = "cohort.toml"
ANOTHER = "this model was trained on another schema: take the model of a run with yours, or change the cohort to its"


@dataclass(frozen=True)
class Fitted:
    """An open modality: its fitted section, the column of the patient's id, and its file; None: no patient has it."""

    section: Section
    key: str
    file: DataFile | None


def section_of(schema: ModalitySchema) -> Section:
    """Return the shortest section of cohort.toml that reads such a modality."""
    kind = kinds()[schema.kind].section
    given = {name: value for name, value in schema if name in kind.model_fields and name not in {"name", "columns"}}
    return kind.model_validate(given | _renamed(schema))


def check_modalities(declared: CohortFile, schema: CohortSchema) -> list[Problem]:
    """Return the contradictions between cohort.toml and the model: classes, modalities and kinds."""
    problems = []
    declares, predicts = declared.label.outcome, schema.predicts
    classes = declares.strata
    if declares.kind != predicts.kind:
        what = f"the outcome is {declares.kind}, and the model's is {predicts.kind}"
        problems.append(Problem(TOML, what, ANOTHER, column="label.kind"))
    elif predicts.by_class and classes != schema.classes:
        what = f"classes {listed(classes)}, and the model's are {listed(schema.classes)}"
        problems.append(Problem(TOML, what, ANOTHER, column="label.classes"))
    elif declares != predicts:
        what = f"the outcome is {declares.describe()}, and the model's is {predicts.describe()}"
        problems.append(Problem(TOML, what, ANOTHER, column="label"))
    known: Mapping[str, ModalitySchema] = {m.name: m for m in schema.modalities}
    for name, section in declared.modalities.items():
        field = f"modalities.{name}"
        if name not in known:
            what, remedy = "the model knows no such modality", f"{suggest(name, known)}; or take the section out"
            problems.append(Problem(TOML, what, remedy, column=field))
        elif section.kind != known[name].kind:
            what = f"is a {section.kind}, and the model's is a {known[name].kind}"
            problems.append(Problem(TOML, what, ANOTHER, column=f"{field}.kind"))
    return problems


def fit_files(
    declared: CohortFile, schema: CohortSchema, files: Mapping[str, DataFile | None], problems: list[Problem]
) -> dict[str, Fitted]:
    """Fit the sections to the schema and to the columns of their files; the result has all the schema's modalities."""
    modalities = {}
    for one in schema.modalities:
        section, file = declared.modalities.get(one.name) or section_of(one), files.get(one.name)
        key = section.id or declared.patients.id
        if file is not None and key not in file.columns:
            Source(file.file, file.empty(), problems).has(key, f"modalities.{one.name}.id")
            continue
        modalities[one.name] = Fitted(fitted(section, one, file, key, problems), key, file)
    return modalities


def fitted(section: Section, schema: ModalitySchema, file: DataFile | None, key: str, by: list[Problem]) -> Section:
    """Return the section, completed by the schema; contradictions are added to the problems `by`.

    Sites must agree on every field that section and schema share, for every kind.

    Parameters
    ----------
    file
        The modality's file; None: no patient has it.
    key
        Column of the patient's id.
    """
    known = dict(schema) | _renamed(schema)
    shared = {
        name: known[name] for name in type(section).model_fields if name in known and name not in {"name", "kind"}
    }
    if isinstance(schema, TableSchema):
        _check_columns(section, schema, file, key, by)
    for name, theirs in shared.items():
        ours = getattr(section, name)
        scales = "standardise" in type(schema).model_fields and name in {"standardise", "mean", "std"}
        own_check = scales or (isinstance(schema, TableSchema) and name == "columns")
        if name in section.model_fields_set and not own_check and _plain(ours) != _plain(theirs):
            what = f"is {_words(ours)}, and the model's is {_words(theirs)}"
            by.append(Problem(TOML, what, ANOTHER, column=f"modalities.{schema.name}.{name}"))
    left_out = {"exclude": ()} if isinstance(schema, TableSchema) else {}  # the columns are named
    return section.model_copy(update={**shared, **left_out, "absent": False})


def _renamed(schema: ModalitySchema) -> dict[str, Any]:
    """Return the fields of a schema that have another name in the section."""
    return {"horizon": schema.horizon_hours} if isinstance(schema, SeriesSchema) else {}


def _plain(value: Any) -> Any:
    """Return a field for comparison: names as texts, and those of a list in any order, as the model's order counts."""
    if isinstance(value, dict):
        return {key: tuple(map(declared_text, levels)) for key, levels in value.items()}
    if isinstance(value, tuple) and any(isinstance(one, str) for one in value):
        return frozenset(map(declared_text, value))
    return () if value is None else value


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {listed(levels)}" for key, levels in value.items()) or "none"
    if isinstance(value, tuple):
        return listed(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check_columns(section: Any, schema: TableSchema, file: DataFile | None, key: str, by: list[Problem]) -> None:
    """Report missing columns of the model, and columns that the model does not have."""
    if file is None:
        return
    here = tuple(c for c in file.columns if c != key and c not in section.exclude)
    if section.columns is not None:
        here = tuple(c for c in here if c in section.columns)
    lacking = [c for c in schema.columns if c not in here]
    unknown = [c for c in here if c not in schema.columns]
    if unknown:
        first = next(file.pieces(), file.empty())
        numbers = row_numbers(Source(file.file, first.select(unknown), []))
        unknown = [c for c in unknown if c not in numbers]
    for column in lacking:
        meant = f"{suggest(column, unknown)}; " if unknown else ""
        remedy = f"{meant}the model was trained with it: add it (cells of patients without a value stay empty)"
        by.append(Problem(file.file, "no such column", remedy, column=column))
    for column in unknown:
        remedy = f"{suggest(column, lacking or schema.columns)}; or list it under exclude in [modalities.{schema.name}]"
        by.append(Problem(file.file, "the model knows no such column", remedy, column=column))
