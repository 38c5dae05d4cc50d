"""`cohort.toml` as the user writes it: which files and columns there are, and what they mean.

Nothing here opens a data file. docs/cohorts.md describes the same content for the people who write such files.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from remind.data.cohort.kind import kinds
from remind.data.cohort.problems import Problem, listed, suggest
from remind.data.cohort.sections import Broken, Declared, Name, Scalar, Section
from remind.data.cohort.text import declared_text
from remind.errors import UserError, several
from remind.groups import MAX_MODALITIES
from remind.invalid import written
from remind.outcomes.base import DEFAULT, LabelSection, Outcome, outcomes
from remind.suggest import did_you_mean

FILE_NAME = "cohort.toml"
ModalityName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]  # + , ; : separate names in groups and rules


class PatientsSection(Declared):
    """The file with one row per patient (or per visit)."""

    file: Name | None = None
    id: Name = "patient_id"
    patient: Name | None = None
    site: Name | None = None
    empty: Broken = "error"


class SplitSection(Declared):
    """A split that the patients file already contains."""

    column: Name = "split"
    train: tuple[Scalar, ...] = ("train",)
    validation: tuple[Scalar, ...] = ("validation", "val", "valid")
    test: tuple[Scalar, ...] = ("test",)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        values = [declared_text(v) for v in (*self.train, *self.validation, *self.test)]
        if twice := sorted({str(v) for v in values if values.count(v) > 1}):
            raise ValueError(f"{', '.join(twice)} is listed more than once in train, validation and test")
        return self


def _of_its_kind(value: Any) -> Any:
    """Read a modality's section as the one of its kind."""
    if isinstance(value, Section):
        return value
    kind = kinds().get(str(value.get("kind"))) if isinstance(value, dict) else None
    if kind is None:
        raise PydanticCustomError("no_such_kind", "no kind of modality")
    return kind.section.model_validate(value)


ModalitySection = Annotated[SerializeAsAny[Section], BeforeValidator(_of_its_kind)]


def _of_its_outcome(value: Any) -> Any:
    """Read the section of the label as that of its outcome."""
    if isinstance(value, dict):
        outcome = outcomes().get(str(value.get("kind", DEFAULT)))
        if outcome is None:
            raise PydanticCustomError("no_such_outcome", "no outcome")
        value = outcome.section.model_validate(value)
    for column in value.columns if isinstance(value, LabelSection) else ():
        if len(set(map(declared_text, column.names or ()))) < len(column.names or ()):
            raise ValueError("two classes have the same name")
    return value


OutcomeSection = Annotated[SerializeAsAny[LabelSection], BeforeValidator(_of_its_outcome)]


class CohortFile(Declared):
    """A parsed cohort.toml. The order of `modalities` defines the bit order of the groups."""

    name: Name
    root: Name | None = None
    patients: PatientsSection = PatientsSection()
    label: OutcomeSection
    split: SplitSection | None = None
    modalities: Annotated[dict[ModalityName, ModalitySection], Field(min_length=1, max_length=MAX_MODALITIES)]

    @field_validator("label")
    @classmethod
    def _is_no_id(cls, label: LabelSection, info: ValidationInfo) -> LabelSection:
        patients: PatientsSection | None = info.data.get("patients")  # None if it is itself wrong
        ids = (patients.id, patients.patient) if patients else ()
        for column in label.columns:
            if column.name in ids:
                raise ValueError(f"it reads the column {column.name!r}, which has the patients' ids: name another")
        return label

    @model_validator(mode="after")
    def _volumes_fit_the_mask(self) -> Self:
        if (form := self.label.outcome.mask) is None:
            return self
        volumes = {
            name: tuple(getattr(one, "size", ())) for name, one in self.modalities.items() if one.kind == "volume"
        }
        if not volumes:
            raise ValueError(
                'a mask is learned from volumes, and no modality is one: add [modalities.<name>] with kind = "volume"'
            )
        for name, size in volumes.items():
            if size != form.size:
                raise ValueError(
                    f"modalities.{name}.size is {listed(map(str, size))}, and the mask's label.size "
                    f"{listed(map(str, form.size))}: give both the same, and set resize = true where files differ"
                )
        return self


def read_declaration(path: str | Path, root: str = "", outcome: Outcome | None = None) -> tuple[CohortFile, Path]:
    """Parse cohort.toml and find the folder of its data files.

    Parameters
    ----------
    path
        The file, or a folder that holds a ``cohort.toml``.
    root
        Folder of the data files. If empty, cohort.toml names it; else it is the folder that holds cohort.toml.
    outcome
        That of a model that is to predict; then cohort.toml needs no ``[label]``.

    Raises
    ------
    UserError
        The file does not exist, is not TOML, or is not a valid cohort.toml. The error lists every wrong field with
        accepted values.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / FILE_NAME
    if not file.is_file():
        raise UserError(f"{file}: no such file; a cohort is a folder with a {FILE_NAME}, described in docs/cohorts.md")
    if file.suffix.lower() != ".toml":
        what = f"{file}: is not a {FILE_NAME}; give the cohort's folder"
        raise UserError(f"{what}, or the {FILE_NAME} in it that says what its files mean (docs/cohorts.md)")
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file}: not valid TOML: {error}; correct that line") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}; check its permissions") from None
    if outcome is not None:
        content.setdefault("label", outcome.section.of(outcome))
    try:
        declared = CohortFile.model_validate(_tuples(content))
    except ValidationError as error:
        raise several(f"{file} is not a valid cohort", map(str, _problems(error, content))) from None
    folder = Path(root).expanduser() if root else file.parent / Path(declared.root or ".").expanduser()
    if not folder.is_dir():
        by = "the root you gave" if root else f"root = {declared.root!r} in {file}"
        raise UserError(f"{folder.resolve()}: no such folder ({by}); name the folder that holds the cohort's files")
    return declared, folder


def _tuples(value: Any) -> Any:
    """Convert TOML arrays to tuples: tuples are immutable, and strict validation expects them."""
    if isinstance(value, dict):
        return {key: _tuples(v) for key, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _problems(error: ValidationError, content: dict[str, Any]) -> list[Problem]:
    """Describe each wrong field as one problem, in the user's terms."""
    items = error.errors()
    # pydantic counts only right entries: a list with a wrong one may have enough of them
    wrong = {item["loc"][:-1] for item in items if item["loc"] and isinstance(item["loc"][-1], int)}
    return [_problem(dict(item), content) for item in items if item["type"] != "too_short" or item["loc"] not in wrong]


def _problem(item: dict[str, Any], content: dict[str, Any]) -> Problem:
    path = [str(part) for part in item["loc"] if part != "[key]"]
    field, seen = written([part for part in item["loc"] if part != "[key]"]), item["input"]
    value = None if isinstance(seen, dict) or item["type"] == "missing" else str(seen)
    match item["type"]:
        case "extra_forbidden":
            what, remedy, value = "no such field", suggest(path[-1], _fields_beside(path, content)), None
        case "missing":
            what, remedy = "missing", _EXAMPLES.get(path[-1], "add it")
        case "no_such_kind":
            field, value = f"{field}.kind", seen.get("kind") if isinstance(seen, dict) else None
            what, remedy = "must say how the modality's file is read", f"use one of {listed(kinds())}"
            remedy += did_you_mean(str(value), kinds())
        case "no_such_outcome":
            field, value = f"{field}.kind", seen.get("kind") if isinstance(seen, dict) else None
            what, remedy = "must say what the label is", f"use one of {listed(outcomes())}"
            remedy += did_you_mean(str(value), outcomes())
        case "string_pattern_mismatch":
            what, remedy = "not a name for a modality", "use only letters, digits, - and _"
        case "too_short":
            what, remedy = f"has {item['ctx']['actual_length']} entries", f"give at least {item['ctx']['min_length']}"
            value = None
        case "too_long":
            what, remedy = f"has {item['ctx']['actual_length']} entries", f"give at most {item['ctx']['max_length']}"
            value = None
        case "value_error":
            what, remedy, value = item["msg"].removeprefix("Value error, "), "see docs/cohorts.md", None
        case _:
            what, remedy = "not what belongs here", _plain(item["msg"])
    return Problem(FILE_NAME, what, remedy, column=field, value=value)


_EXAMPLES = {
    "name": 'add a line like name = "my-cohort"',
    "label": 'add [label] with a line like classes = ["no", "yes"]',
    "classes": 'add a line like classes = ["no", "yes"]',
    "modalities": "add [modalities.<name>] for each modality",
    "range": "add a line like range = [3, 20], the smallest and the largest possible value",
    "edges": "add a line like edges = [1, 2, 4, 8], the ends of the intervals of time",
    "time": 'add a line like time = "days", the column with the time',
    "event": 'add a line like event = "died", the column that says whether the event happened',
    "size": "add a line like size = [128, 128, 128]: slices, height and width of each patient's volume",
    "regions": "add a line like regions = { whole = [1, 2, 4], core = [1, 4] }, the mask's numbers in each region",
    "labels": 'add a line like labels = ["death", "readmission"], the columns of the labels',
}


def _plain(message: str) -> str:
    """Rewrite pydantic's message in TOML terms."""
    return (
        message.replace("Input should", "it should")
        .replace("valid tuple", "list")
        .replace("valid dictionary", "table")
        .replace("a valid", "a")
        .partition(" or instance of")[0]
    )


def _fields_beside(path: list[str], content: dict[str, Any]) -> list[str]:
    """Return the field names that are accepted in the section that holds an unknown field."""
    sections: dict[str, type[Declared]] = {"patients": PatientsSection, "split": SplitSection}
    if path[0] == "label":
        return list(outcomes()[content["label"].get("kind", DEFAULT)].section.model_fields)
    if len(path) == 1:
        return list(CohortFile.model_fields)
    if path[0] == "modalities":
        return list(kinds()[content["modalities"][path[1]]["kind"]].section.model_fields)
    return list(sections[path[0]].model_fields)
