"""Notes: in a column of a table, or one file each. Letters: R rows, N patients."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import model_validator
from typing_extensions import override

from remind.config import EncoderConfig
from remind.data.cohort.contents import OnePerPatient
from remind.data.cohort.file_kind import NOTHING_SEEN, FileKind
from remind.data.cohort.kind import Columns, Floats, Members, Seen, Text, register
from remind.data.cohort.modality_schema import ModalitySchema
from remind.data.cohort.problems import Problem, counted, listed
from remind.data.cohort.sections import Broken, Name, Section, no_file_where_absent
from remind.data.cohort.suspicious_texts import is_damaged
from remind.data.cohort.tabular import Source
from remind.data.cohort.wanted import Wanted, missing_words, one_row_each, patient_rows, placeholders, read_paths
from remind.data.files import Sight, Unreadable, read_note
from remind.errors import UserError

DEFAULT_TEXT = "text"
BETWEEN = "\n\n"  # separates the notes of one patient when they are joined
LARGE_NOTE = 100_000  # bytes
SEARCHED = 20_000  # characters of a note whose words may leak the label
_WORD = re.compile(r"[^\W\d_]{3,}")


class TextSection(Section):
    """Notes: texts in a column, or a column of paths to text files."""

    kind: Literal["text"]
    text: Name | None = None
    path: Name | None = None
    order: Name | None = None
    broken: Broken = "error"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        no_file_where_absent(self)
        if self.text is not None and self.path is not None:
            raise ValueError("text and path are both given; the notes are either in the table or in files")
        if self.path is not None and self.order is not None:
            raise ValueError("order joins several rows of text; notes in files are one file each")
        return self


class TextSchema(ModalitySchema):
    """A modality with one note per patient."""

    kind: Literal["text"] = "text"


@dataclass(frozen=True, eq=False)
class Texts(OnePerPatient):
    """One note per patient: the text itself, the path of a file that holds the text, or None."""


@dataclass(frozen=True)
class TextBatch:
    """The notes of P patients."""

    texts: tuple[str, ...]


@register
class TextKind(FileKind[TextSection, TextSchema, Texts]):
    """Notes."""

    section, schema, contents = TextSection, TextSchema, Texts

    @override
    def read(self, source: Source, wanted: Wanted[TextSection]) -> tuple[TextSchema, Texts] | None:
        return read_text(source, wanted)

    @override
    def absent(self, name: str, section: TextSection, n: int, problems: list[Problem]) -> tuple[TextSchema, Texts]:
        return TextSchema(name=name), Texts(np.full(n, None, dtype=object))

    @override
    def examine(self, schema: TextSchema, contents: Texts, path: Path) -> Sight:
        if not read_note(path):
            raise Unreadable("the note is empty", "remove its row, so that the patient counts as having no note")
        return NOTHING_SEEN

    @override
    def describe(self, schema: TextSchema) -> str:
        return "text"

    @override
    def look(self, schema: TextSchema, contents: Texts, patient_id_N: Text, sights: Mapping[Path, Sight]) -> Seen:
        return _look(schema.name, contents, patient_id_N)

    @override
    def features(self, schema: TextSchema, contents: Texts) -> Iterator[tuple[str, Floats]]:
        texts = [None if source is None else _text(source) for source in contents.source_N]
        words = [np.nan if text is None else float(len(text.split())) for text in texts]
        yield "how many words a note has", np.array(words, dtype=np.float64)

    @override
    def members(self, schema: TextSchema, contents: Texts) -> Members:
        return _words(contents)

    @override
    def columns(self, folder: Path, patient_id_N: Text, schema: TextSchema, contents: Texts) -> Columns:
        has_N = contents.present()
        return {
            "patient_id": patient_id_N[has_N].tolist(),
            "text": [_note(source) if isinstance(source, Path) else source for source in contents.source_N[has_N]],
        }

    @override
    def fields(self, schema: TextSchema, contents: Texts) -> dict[str, Any]:
        return {}

    @override
    def load(self, schema: TextSchema, contents: Texts, source: Path | str) -> str:
        return read_note(source) if isinstance(source, Path) else str(source)

    @override
    def shape(self, schema: TextSchema) -> None:
        return None

    @override
    def gathered(self, loaded: tuple[str, ...]) -> TextBatch:
        return TextBatch(loaded)


def read_text(source: Source, wanted: Wanted[TextSection]) -> tuple[TextSchema, Texts] | None:
    """Read notes as texts, or as paths that are opened when needed. An empty note counts as no note."""
    patient_R = patient_rows(source, wanted)
    section = wanted.section
    if section.path is not None:
        note_R = read_paths(source, wanted, section.path)
    elif source.has(section.text or DEFAULT_TEXT, f"{wanted.field}.text"):
        codes_R, texts = source.texts(section.text or DEFAULT_TEXT, prose=True)
        missing_words(source, wanted.name, section.text or DEFAULT_TEXT, "an empty note", "which counts as none", True)
        placeholders(source, wanted.name, texts, codes_R, "a note")
        note_R = np.array([*texts, None], dtype=object)[codes_R]
    else:
        note_R = None
    if patient_R is None or wanted.position is None or note_R is None:
        return None
    note_N = np.full(len(wanted.position), None, dtype=object)
    if section.order is None:
        known_R = one_row_each(source, wanted, patient_R)
        note_N[patient_R[known_R]] = note_R[known_R]
    elif source.has(section.order, f"{wanted.field}.order"):
        order_R = source.numbers(section.order)
        for row in np.argsort(order_R, kind="stable"):
            if patient_R[row] >= 0 and note_R[row]:
                before = note_N[patient_R[row]]
                note_N[patient_R[row]] = note_R[row] if before is None else before + BETWEEN + note_R[row]
    return TextSchema(name=wanted.name), Texts(note_N)


def _note(path: Path) -> str:
    try:
        return read_note(path)
    except Unreadable as error:
        raise UserError(f"{path}: {error}") from None


def _look(name: str, notes: Texts, patient_id_N: Text) -> Seen:
    words_of: dict[str, int] = {}
    large, damaged = [], []
    for i in np.flatnonzero(notes.present()):
        if (text := _text(notes.source_N[i])) is not None:
            words_of[patient_id_N[i]] = len(text.split())
            large += [patient_id_N[i]] if len(text.encode()) > LARGE_NOTE else []
            damaged += [patient_id_N[i]] if is_damaged(text) else []
    if not words_of:
        return Seen()
    most = EncoderConfig().text_length
    cut = [patient for patient, words in words_of.items() if words > most]
    warnings = []
    if large:
        of = f"{counted(len(large), 'note')} of more than {LARGE_NOTE // 1000} kB"
        warnings.append(f"{name}: {of}: patient {listed(large, 5)}; is each of them one note?")
    if damaged:
        of = f"{counted(len(damaged), 'note')} with characters that another program has damaged"
        warnings.append(
            f"{name}: {of} (such as 'Ã¼' for 'ü'): patient {listed(damaged, 5)}; export them again as UTF-8"
        )
    if cut:
        longest = max(cut, key=words_of.__getitem__)
        of = f"{len(cut)} of {counted(len(words_of), 'note')} have more than {most} words"
        read = f"{most / words_of[longest]:.1%} of the longest, patient {longest}'s"
        warnings.append(f"{name}: {of}, of which at most {most} are read (model.encoders.text-length): {read}")
    lengths = sorted(words_of.values())
    words = f"; notes of {lengths[0]} to {lengths[-1]} words, half of them up to {lengths[len(lengths) // 2]}"
    return Seen(words, tuple(warnings))


def _words(notes: Texts) -> Members:
    """Return the words of each note, in lower case, each once."""
    index: dict[str, int] = {}
    of_N = []
    for source in notes.source_N:
        text = None if source is None else _text(source)
        words = set(_WORD.findall((text or "")[:SEARCHED].lower()))
        of_N.append([index.setdefault(word, len(index)) for word in sorted(words)])
    offsets_N1 = np.cumsum([0, *map(len, of_N)], dtype=np.int64)
    member_O = np.array([word for words in of_N for word in words], dtype=np.int64)
    return Members(offsets_N1, member_O, tuple(index), "whether the note contains")


def _text(source: Path | str) -> str | None:
    """Return the text of a note; None if its file has changed."""
    try:
        return read_note(source) if isinstance(source, Path) else source
    except Unreadable:
        return None
