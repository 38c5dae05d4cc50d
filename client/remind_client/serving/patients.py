"""Convert requests to a cohort. Every value is checked against the model's schema; each mistake gives one line.

Letters: N patients of the request, F columns, O observations or codes.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from remind.data.cohort.cohort import Cohort, presence
from remind.data.cohort.contents import Contents
from remind.data.cohort.examine import examine
from remind.data.cohort.kind import kind_of
from remind.data.cohort.kinds.codes import Codes, CodesSchema
from remind.data.cohort.kinds.pictures import Files, Reading
from remind.data.cohort.kinds.series import Series
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.cohort.kinds.table import Table, TableSchema
from remind.data.cohort.kinds.text import Texts, TextSchema
from remind.data.cohort.schema import CohortSchema, ModalitySchema
from remind.data.cohort.text import id_text, is_missing
from remind.suggest import did_you_mean
from remind_client.serving.request import OWN, Patient
from remind_client.serving.values import MistakeError, codes, observations, row, shown_kind
from remind_client.vault.memory import NoMemory

AN_ID = "give a text or a whole number"


@dataclass(frozen=True)
class Intake:
    """Reads patients for one model.

    Attributes
    ----------
    schema
        The model's schema.
    uploads
        Folder for the files in this request; removed after the request.
    files
        The folder of the paths that a request may name; None: a request may not name a path.
    readings
        How this hospital converts files to pixels, by modality.
    """

    schema: CohortSchema
    uploads: Path
    files: Path | None = None
    readings: Mapping[str, Reading] = field(default_factory=dict)

    def cohort(self, patients: Sequence[Any]) -> tuple[Cohort, dict[int, str]]:
        """Return the N patients of a request, and position → why a patient gets no prediction."""
        names, problems = [], {}
        values: list[dict[str, Any]] = []
        for i, given in enumerate(patients):
            name, own, problem = self._one(given, i)
            if not problem and name in names:
                problem = f"id {name!r}: occurs twice in this request; give each patient once"
            names.append(name)
            values.append({} if problem else own)
            if problem:
                problems[i] = problem
        contents = {m.name: _contents(m, values, self.readings.get(m.name, Reading())) for m in self.schema.modalities}
        for modality in self.schema.modalities:
            for i, finding in examine(modality, contents[modality.name], NoMemory()).findings.items():
                problems.setdefault(i, f"{modality.name}: the file {finding.what}; {finding.remedy}")
        hidden_N = np.zeros(len(patients), dtype=bool)
        hidden_N[list(problems)] = True
        contents = {name: one.hide(hidden_N) for name, one in contents.items()}
        ids = np.array(names, dtype=np.str_)
        labels = np.zeros(len(patients), dtype=np.int64)
        cohort = Cohort(self.schema, ids, ids, labels, None, None, presence(self.schema, contents), contents)
        return cohort, problems

    def _one(self, given: Any, place: int) -> tuple[str, dict[str, Any], str]:
        """Return a patient's id, checked values by modality, and the first mistake, or an empty text."""
        shown = _id(given)
        name = shown or f"#{place + 1}"
        try:
            if not isinstance(given, dict):
                raise MistakeError(f"patient: {shown_kind(given)}; a patient is {{id, modalities}}")
            if shown is None and "id" in given:
                empty = given["id"] is None or given["id"] == ""
                raise MistakeError(f"id: {'is empty' if empty else shown_kind(given['id'])}; {AN_ID}")
            if not _is_text(given):
                raise MistakeError(
                    "holds half of a surrogate pair (such as \\ud800), which is no character; send UTF-8"
                )
            patient = Patient.model_validate(given)
            return name, self._values(patient.modalities, place), ""
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "patient"
            extra = first["type"] == "extra_forbidden"
            return (
                name,
                {},
                f"{where}: no such field; a patient has id and modalities" if extra else f"{where}: {first['msg']}",
            )
        except MistakeError as error:
            return name, {}, str(error)

    def _values(self, given: Mapping[str, Any], place: int) -> dict[str, Any]:
        for name in given:
            if name not in self.schema.names:
                hint = did_you_mean(name, self.schema.names)
                raise MistakeError(
                    f"{name}: the model has no such modality{hint}; it has {', '.join(self.schema.names)}"
                )
        return {
            m.name: self._read(m, given[m.name], place) for m in self.schema.modalities if given.get(m.name) is not None
        }

    def _read(self, modality: ModalitySchema, given: Any, place: int) -> Any:
        if isinstance(modality, TableSchema):
            return row(modality, given)
        if isinstance(modality, SeriesSchema):
            return observations(modality, given)
        if isinstance(modality, CodesSchema):
            return codes(modality, given)
        if isinstance(modality, TextSchema):
            if not isinstance(given, str):
                raise MistakeError(f"{modality.name}: {shown_kind(given)}; a note is a text")
            return None if is_missing(given) else given
        if isinstance(modality, OWN):
            return self._file(modality.name, given, place)
        try:
            return kind_of(modality).of_request(modality, given)
        except ValueError as error:
            raise MistakeError(f"{modality.name}: {error}") from None

    def _file(self, name: str, given: Any, place: int) -> Path:
        if not isinstance(given, dict) or not (
            {"base64"} <= set(given) <= {"base64", "name"} or set(given) == {"path"}
        ):
            raise MistakeError(f"{name}: give {{base64, name}} or {{path}}")
        if not all(isinstance(value, str) for value in given.values()):
            raise MistakeError(f"{name}: base64, name and path are texts")
        if "path" in given:
            return self._inside(name, given["path"])
        try:
            content = base64.b64decode(given["base64"], validate=True)
        except (binascii.Error, ValueError):
            raise MistakeError(f"{name}.base64: is not base64") from None
        ending = "".join(Path(given.get("name", "")).suffixes[-2:])  # .nii.gz; other formats are recognised by content
        path = self.uploads / f"{place}-{self.schema.names.index(name)}{ending if ending.isascii() else ''}"
        path.write_bytes(content)
        return path

    def _inside(self, name: str, given: str) -> Path:
        """Return a path inside the folder of files, after following links."""
        if self.files is None:
            raise MistakeError(
                f"{name}.path: this service reads no paths (it was started without --files); send base64"
            )
        root = self.files.resolve()
        try:
            path = (root / given).resolve()
            inside = path.is_relative_to(root) and path.exists()
        except (OSError, ValueError):  # an impossible file name
            inside = False
        if not inside:
            raise MistakeError(f"{name}.path: no such file in the folder of --files")
        return path


def _id(given: Any) -> str | None:
    """Return a patient's id as text that can be sent back; None if it is not a valid id."""
    own = given.get("id") if isinstance(given, dict) else None
    if isinstance(own, bool) or not isinstance(own, str | int):
        return None
    text = id_text(own)
    return None if text is None else text.encode(errors="backslashreplace").decode()


def _is_text(given: Any) -> bool:
    """Return whether every text can be encoded; JSON allows half surrogate pairs, UTF-8 does not."""
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _contents(modality: ModalitySchema, values: Sequence[Mapping[str, Any]], reading: Reading) -> Contents:
    """Return the checked values of all patients in the form that the readers of cohort files return."""
    own = [one.get(modality.name) for one in values]
    if isinstance(modality, TableSchema):
        rows = [[np.nan] * len(modality.columns) if one is None else one for one in own]
        return Table(np.array(rows, dtype=np.float32).reshape(len(own), len(modality.columns)))
    if isinstance(modality, SeriesSchema):
        entries, offsets_N1 = _ragged(own)
        time, item, value = zip(*entries, strict=True) if entries else ((), (), ())
        return Series(offsets_N1, np.array(time, np.float32), np.array(item, np.int64), np.array(value, np.float32))
    if isinstance(modality, CodesSchema):
        all_codes, offsets_N1 = _ragged(own)
        names = sorted(set(all_codes))
        rank = {name: k for k, name in enumerate(names)}
        return Codes(offsets_N1, np.array([rank[c] for c in all_codes], dtype=np.int64), tuple(names))
    if not isinstance(modality, OWN):
        made: Contents = kind_of(modality).of_requests(modality, own)
        return made
    source_N = np.full(len(own), None, dtype=object)
    source_N[:] = own
    return Texts(source_N) if isinstance(modality, TextSchema) else Files(source_N, reading)


def _ragged(own: Sequence[list[Any] | None]) -> tuple[list[Any], np.ndarray]:
    length: Callable[[list[Any] | None], int] = lambda entries: len(entries or ())  # noqa: E731
    offsets_N1 = np.concatenate([[0], np.cumsum([length(entries) for entries in own])]).astype(np.int64)
    return [entry for entries in own for entry in entries or ()], offsets_N1
