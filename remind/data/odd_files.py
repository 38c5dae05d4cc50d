"""Pictures and notes that can be read but are seldom meant: one grey value all over, stretched, too long to be read."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from remind.config import EncoderConfig
from remind.data.cohort import Text
from remind.data.contents import Contents, Files, Texts
from remind.data.files import Unreadable, read_note
from remind.data.files.decode import decode
from remind.data.files.errors import reading
from remind.data.files.pixels import Pixels, shape_text
from remind.data.problems import counted, listed
from remind.data.readers.text import DEFAULT_TEXT
from remind.data.schema import ImageSchema, ModalitySchema, VolumeSchema
from remind.data.sections import TextSection
from remind.data.tabular import find_file, open_source
from remind.data.text import id_text

LOOKED_AT = 100  # pictures of a modality that are decoded once more; all of them could take hours
STRETCHED = 1.25  # factor by which a picture's proportions may change
LARGE_NOTE = 100_000  # bytes


@dataclass(frozen=True)
class Seen:
    """What a modality's files are like, in words that follow its description, and what is odd about them."""

    words: str = ""
    warnings: tuple[str, ...] = ()


def look(schema: ModalitySchema, contents: Contents, patient_id_N: Text) -> Seen:
    """Look at pictures (some of them) and notes (all); of other kinds there is nothing to see."""
    having = np.flatnonzero(contents.present())
    if isinstance(contents, Files) and isinstance(schema, ImageSchema | VolumeSchema):
        return _look_at_pictures(schema, contents, having, patient_id_N)
    if isinstance(contents, Texts):
        return _look_at_notes(schema.name, contents, having, patient_id_N)
    return Seen()


def empty_notes(name: str, section: TextSection, folder: Path) -> int:
    """Rows of a modality's file whose note is empty, so that it counts as none; 0 where notes are files."""
    path = find_file(folder, name, section.file, "", [])
    source = open_source(path, []) if path else None
    column = section.text or DEFAULT_TEXT
    if source is None or section.path is not None or column not in source.columns:
        return 0
    return int((source.texts(column, id_text)[0] < 0).sum())


def _look_at_pictures(
    schema: ImageSchema | VolumeSchema, files: Files, having: NDArray[np.int64], patient_id_N: Text
) -> Seen:
    chosen = having[np.unique(np.linspace(0, len(having) - 1, min(LOOKED_AT, len(having))).astype(int))]
    stack = isinstance(schema, VolumeSchema)
    found = {i: pixels for i in chosen if (pixels := _decoded(files, int(i), stack)) is not None}
    if not found:
        return Seen()
    of = f"of {counted(len(found), 'file')}" + (" looked at" if len(found) < len(having) else "")
    flat = [patient_id_N[i] for i, (_, constant) in found.items() if constant]
    shapes = [shape for shape, _ in found.values()]
    size, n = tuple(schema.size), schema.name
    smaller = sum(any(a < b for a, b in zip(shape, size, strict=True)) for shape in shapes)
    stretched = sum(_stretch(shape, size) > STRETCHED for shape in shapes)
    warnings = [
        (flat, f"{n}: {len(flat)} {of} show one grey value all over: patient {listed(flat, 5)}; is there a picture?"),
        (smaller, f"{n}: {smaller} {of} are smaller than {shape_text(size)} and are enlarged; a smaller size would do"),
        (stretched, f"{n}: {stretched} {of} have other proportions than {shape_text(size)} and are stretched"),
    ]
    common = Counter(shapes).most_common()
    words = shape_text(common[0][0])
    if len(common) > 1:
        words = f"{len(common)} sizes, most often {words} ({common[0][1]} {of})"
    return Seen(f"; files of {words}", tuple(text for odd, text in warnings if odd))


def _decoded(files: Files, i: int, stack: bool) -> tuple[tuple[int, ...], bool] | None:
    """Size as it is in the file, and whether all is one value, as shown; None: the file is no more what it was."""
    try:
        with reading():
            pixels: Pixels = decode(files.source_N[i], files.reading.window, stack)
    except Unreadable:
        return None
    extremes = np.array([pixels.array.min(), pixels.array.max()])
    shown = np.clip(extremes, min(pixels.black, pixels.white), max(pixels.black, pixels.white))
    return pixels.array.shape[:3] if stack else pixels.array.shape[1:3], bool(shown[0] == shown[1])


def _stretch(shape: tuple[int, ...], size: tuple[int, ...]) -> float:
    """Factor by which height over width changes; at least 1."""
    change = (shape[-2] / shape[-1]) / (size[-2] / size[-1])
    return max(change, 1 / change)


def _look_at_notes(name: str, notes: Texts, having: NDArray[np.int64], patient_id_N: Text) -> Seen:
    words_of: dict[str, int] = {}
    large = []
    for i in having:
        if (text := _text(notes.source_N[i])) is not None:
            words_of[patient_id_N[i]] = len(text.split())
            large += [patient_id_N[i]] if len(text.encode()) > LARGE_NOTE else []
    if not words_of:
        return Seen()
    most = EncoderConfig().text_length
    cut = [patient for patient, words in words_of.items() if words > most]
    warnings = []
    if large:
        of = f"{counted(len(large), 'note')} of more than {LARGE_NOTE // 1000} kB"
        warnings.append(f"{name}: {of}: patient {listed(large, 5)}; is each of them one note?")
    if cut:
        longest = max(cut, key=words_of.__getitem__)
        of = f"{len(cut)} of {counted(len(words_of), 'note')} have more than {most} words"
        read = f"{most / words_of[longest]:.1%} of the longest, patient {longest}'s"
        warnings.append(f"{name}: {of}, of which at most {most} are read (model.encoders.text-length): {read}")
    lengths = sorted(words_of.values())
    words = f"; notes of {lengths[0]} to {lengths[-1]} words, half of them up to {lengths[len(lengths) // 2]}"
    return Seen(words, tuple(warnings))


def _text(source: Path | str) -> str | None:
    """A note; None where its file is no more what it was."""
    try:
        return read_note(source) if isinstance(source, Path) else source
    except Unreadable:
        return None
