"""Reads patients for a trained model, some thousands at a time: no labels, splits or whole files are needed.

What is wrong with one patient is said of that patient, and the others are served; what is wrong with a file, or with
cohort.toml, is an error as anywhere.
Letters: N patients of a chunk, R rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.cohort import Cohort, Text, presence
from remind.data.cohort.contents import Contents, OnePerPatient
from remind.data.cohort.declaration import CohortFile, read_declaration
from remind.data.cohort.examine import examine, mask_of
from remind.data.cohort.fit import Fitted, check_modalities, fit_files
from remind.data.cohort.kind import kind_of
from remind.data.cohort.patients import DEFAULT_SITE, label_column
from remind.data.cohort.problems import Problem, counted, listed, shortened
from remind.data.cohort.rows import DataFile, hashes, open_file
from remind.data.cohort.schema import CohortSchema
from remind.data.cohort.sections import Section
from remind.data.cohort.source_files import SUFFIXES, find_file
from remind.data.cohort.tabular import Source, Spoiled
from remind.data.cohort.verdicts import Memory
from remind.data.cohort.wanted import Wanted
from remind.errors import UserError
from remind.outcomes.base import Encoded

CHUNK = 8192  # patients in memory at a time; a multiple of every batch, so that batches do not depend on it
MOST = 3  # problems that are told of one patient


@dataclass(frozen=True)
class Chunk:
    """Some consecutive patients; `problems` says, by position, who of them cannot be served and why."""

    cohort: Cohort
    problems: Mapping[int, str]


@dataclass
class NewPatients:
    """The patients of a cohort's files, or of tables in memory, for a model with this schema.

    Attributes
    ----------
    where
        The cohort, for messages.
    remarks
        What is unusual but no error; complete when all chunks have been read.
    """

    where: str
    schema: CohortSchema
    declared: CohortFile
    folder: Path
    patients: DataFile
    modalities: Mapping[str, Fitted]
    memory: Memory | None = None
    remarks: list[str] = field(default_factory=list)

    def chunks(self, size: int = CHUNK) -> Iterator[Chunk]:
        """Yield all patients, `size` at a time, in the order of the patients file.

        Raises
        ------
        UserError
            Something is wrong with a file as a whole.
        """
        known = self._ids()
        self._note_strangers(known)
        twice = known[:-1][known[1:] == known[:-1]]
        for start, table in self.patients.slices(size):
            yield self._chunk(start, table, twice)

    def _ids(self) -> NDArray[np.uint64]:
        """Return the hashes of all patients' ids, sorted."""
        key = self.declared.patients.id
        parts = []
        for _, _, codes_R, names in self.patients.texts_of(key):
            parts.append(np.append(hashes(names), np.uint64(0))[codes_R[codes_R >= 0]])
        found = np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.uint64)
        if not len(found):
            raise UserError(f"{self.where}: {self.patients.file} has no patients; add rows")
        return found

    def _note_strangers(self, known: NDArray[np.uint64]) -> None:
        """Note rows of modalities that belong to nobody in the patients file: they are passed over."""
        for name, modality in self.modalities.items():
            if modality.file is None:
                continue
            strangers: dict[str, None] = {}
            number = nobody = 0
            for _, _, codes_R, names in modality.file.texts_of(modality.key):
                nobody += int((codes_R < 0).sum())
                there = np.isin(hashes(names), known)
                unknown = [text for text, ok in zip(names, there.tolist(), strict=True) if not ok]
                number += len(unknown)
                strangers |= dict.fromkeys(unknown[: MOST - len(strangers)] if len(strangers) < MOST else ())
            if number:
                what = f"{counted(number, 'patient')} not in the patients file"
                self.remarks.append(f"{name}: {what}, whose rows are passed over: {listed(strangers, MOST)}")
            if nobody:
                self.remarks.append(f"{name}: {counted(nobody, 'row')} without a patient's id passed over")

    def _chunk(self, start: int, table: Any, twice: NDArray[np.uint64]) -> Chunk:
        spoiled: list[Spoiled] = []
        problems: list[Problem] = []
        rows_R = start + np.arange(len(table))
        source = self.patients.source(table, rows_R, problems, spoiled)
        id_N, codes_N = _column(source, self.declared.patients.id)
        said: dict[int, list[str]] = {}
        again_N = np.isin(hashes(id_N.tolist()), twice) & (codes_N >= 0)
        for i in np.flatnonzero(again_N).tolist():
            said[i] = [f"{source.file}: patient {str(id_N[i])!r} occurs more than once; keep one row each"]
        for i in np.flatnonzero(codes_N < 0).tolist():
            said[i] = [f"{source.file}: row {rows_R[i] + 1} has no patient id; fill it in"]
        position = {str(id_N[i]): i for i in range(len(id_N)) if i not in said}
        starts = {column: source.seconds(column) for column in self._starts(source)}
        for one in spoiled:
            for i in np.flatnonzero(one.bad_R).tolist():
                said.setdefault(i, []).append(str(source.problem_of(i, one.what, one.remedy, one.column)))
        contents = {
            name: self._contents(name, modality, position, starts, len(id_N), problems, said)
            for name, modality in self.modalities.items()
        }
        if problems:
            raise UserError("\n".join([f"{self.where}: these patients cannot be read", *shortened(problems)]))
        cohort = Cohort(
            schema=self.schema,
            patient_id_N=id_N,
            person_N=id_N,
            label_N=(labels := self._labels(source)).label_R,
            target_NT=labels.target_RT,
            site_N=self._sites(source),
            split_N=None,
            presence_Nm=presence(self.schema, contents),
            modalities=contents,
        )
        return Chunk(cohort, {i: "; ".join(texts[:MOST]) for i, texts in sorted(said.items())})

    def _contents(
        self,
        name: str,
        modality: Fitted,
        position: Mapping[str, int],
        starts: Mapping[str, NDArray[np.float64]],
        n: int,
        problems: list[Problem],
        said: dict[int, list[str]],
    ) -> Contents:
        """Return a modality of the n patients of a chunk; what is wrong with somebody's rows is `said` of them."""
        section = modality.section
        nothing: Contents = kind_of(section).absent(name, section, n, [])[1]
        if modality.file is None or modality.key not in modality.file.columns:
            return nothing
        table, rows_R = modality.file.rows_of(modality.key, position)
        if not len(table):
            return nothing
        spoiled: list[Spoiled] = []
        source = modality.file.source(table, rows_R, problems, spoiled)
        place = _Places(position, n)
        found = kind_of(section).read(source, Wanted(name, section, modality.key, place, self.folder, starts))
        codes_R, names = source.texts(modality.key)
        row_N = np.array([*(position.get(text, -1) for text in names), -1])[codes_R]
        for one in spoiled:
            for row in np.flatnonzero(one.bad_R).tolist():
                texts = said.setdefault(int(row_N[row]), [])
                if len(texts) < MOST:
                    texts.append(str(source.problem_of(row, one.what, one.remedy, one.column)))
        if found is None:
            return nothing
        return self._examined(name, found[1], section, said)

    def _examined(self, name: str, contents: Contents, section: Section, said: dict[int, list[str]]) -> Contents:
        """Return the contents without files that cannot be used, where cohort.toml leaves these out."""
        if not isinstance(contents, OnePerPatient):
            return contents
        schema = next(m for m in self.schema.modalities if m.name == name)
        findings = examine(schema, contents, self.memory).findings
        if getattr(section, "broken", "error") != "drop":
            for i, finding in findings.items():
                text = f"modality {name} ({contents.source_N[i].name}): {finding.what}; {finding.remedy}"
                said.setdefault(i, []).append(text)
        return contents.hide(mask_of(findings, len(contents.source_N))) if findings else contents

    def _starts(self, source: Source) -> list[str]:
        sections = [modality.section for modality in self.modalities.values()]
        columns = [start for s in sections if (start := kind_of(s).start(s)) is not None]
        return [column for column in dict.fromkeys(columns) if source.has(column, "modalities.….start")]

    def _sites(self, source: Source) -> Text | None:
        column = self.declared.patients.site or DEFAULT_SITE
        return _column(source, column)[0] if column in source.columns else None

    def _labels(self, source: Source) -> Encoded:
        """Return labels where there are some, −1 where there are none: nothing of a prediction depends on them.

        What is no label counts as none, and is not reported.
        """
        section = self.declared.label
        if any(column.name not in source.columns for column in section.columns):
            width = self.schema.predicts.targets
            target_NT = np.full((len(source), width), np.nan) if width else None
            return Encoded(np.full(len(source), -1, dtype=np.int64), target_NT)
        quiet = replace(source, problems=[], spoiled=[])
        return section.outcome.encode([label_column(quiet, column, self.folder)[0] for column in section.columns])


class _Places(dict[str, int]):
    """Row of each patient of a chunk; as long as the chunk, also where some of its patients have no id."""

    def __init__(self, position: Mapping[str, int], n: int) -> None:
        super().__init__(position)
        self.n = n

    def __len__(self) -> int:
        return self.n


def open_cohort(path: str | Path, schema: CohortSchema, root: str = "", memory: Memory | None = None) -> NewPatients:
    """Open a cohort folder for a model with this schema.

    Labels, splits and sites may be absent, and so may cohort.toml's ``[label]``; a modality that cohort.toml does not
    name, or whose file is not there, is one that no patient has.

    Raises
    ------
    UserError
        Names everything that is wrong with cohort.toml and with the files' columns.
    """
    declared, folder = read_declaration(path, root, schema.predicts)
    problems = check_modalities(declared, schema)
    if problems:
        raise _unfit(path, problems)
    remarks: list[str] = []
    patients_path = find_file(folder, "patients", declared.patients.file, "patients", problems)
    patients = open_file(patients_path, problems) if patients_path else None
    if patients is not None and declared.patients.id not in patients.columns:
        Source(patients.file, patients.empty(), problems).has(declared.patients.id, "patients.id")
    files: dict[str, DataFile | None] = {}
    for name, section in declared.modalities.items():
        files[name] = None if section.absent else _file(folder, name, section, problems, remarks)
    modalities = fit_files(declared, schema, files, problems)
    if problems or patients is None:
        raise _unfit(path, problems)
    return NewPatients(f"cohort {path}", schema, declared, folder, patients, modalities, memory, remarks)


def _file(folder: Path, name: str, section: Section, problems: list[Problem], remarks: list[str]) -> DataFile | None:
    if section.file is None and not any((folder / (name + suffix)).is_file() for suffix in SUFFIXES):
        files = " or ".join(name + suffix for suffix in SUFFIXES)
        remarks.append(f"{name}: there is no {files}, so no patient has this modality")
        return None
    path = find_file(folder, name, section.file, f"modalities.{name}", problems)
    return open_file(path, problems) if path else None


def _column(source: Source, column: str) -> tuple[Text, NDArray[np.int64]]:
    """Return a column's texts, empty where there is none, and their codes, −1 where there is none."""
    codes_R, names = source.texts(column)
    return np.array([*names, ""], dtype=np.str_)[codes_R], codes_R


def _unfit(path: str | Path, problems: list[Problem]) -> UserError:
    return UserError("\n".join([f"cohort {path}: the model cannot be used on it", *shortened(problems)]))
