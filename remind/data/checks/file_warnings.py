"""Warnings: pictures and notes that can be read but are probably a mistake (one grey value, stretched, too long)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from remind.config import EncoderConfig
from remind.data.cohort.cohort import Text
from remind.data.cohort.contents import Contents, Files, Texts
from remind.data.cohort.problems import counted, listed
from remind.data.cohort.schema import ImageSchema, ModalitySchema, VolumeSchema
from remind.data.files import Sight, Unreadable, read_note
from remind.data.files.pixels import HOLE, NOWHERE, RANGE, TILT, shape_text

STRETCHED = 1.25  # factor by which resizing may change a picture's proportions
LARGE_NOTE = 100_000  # bytes
WINDOW = "set window = [centre, width] in [modalities.{name}], [2048, 4096] for 12 bits, so that they fill it"
REMARKS = {  # kind → what the warning says about the files, and what to do
    HOLE: ("seem to lack slices, so that the volume is squeezed", "export them whole, or remove their rows"),
    RANGE: ("use a small part of the values that they could hold, so that they look dark or pale", WINDOW),
    NOWHERE: (
        "do not say how they lie in the patient",
        "left and right may be exchanged: x is taken to run to the patient's left; convert them again with a qform or "
        "sform",
    ),
    TILT: ("have slices that are shifted against each other (a tilted gantry)", "correct the tilt before exporting"),
}


@dataclass(frozen=True)
class Seen:
    """Properties of a modality's files, worded to follow the modality's description, and warnings about them."""

    words: str = ""
    warnings: tuple[str, ...] = ()


def look(schema: ModalitySchema, contents: Contents, patient_id_N: Text, sights: Mapping[Path, Sight]) -> Seen:
    """Inspect pictures and notes; other kinds have nothing to inspect.

    Parameters
    ----------
    sights
        Properties of the pictures, from their examination.
    """
    having = np.flatnonzero(contents.present())
    if isinstance(contents, Files) and isinstance(schema, ImageSchema | VolumeSchema):
        return _look_at_pictures(schema, contents, having, patient_id_N, sights)
    if isinstance(contents, Texts):
        return _look_at_notes(schema.name, contents, having, patient_id_N)
    return Seen()


def _look_at_pictures(
    schema: ImageSchema | VolumeSchema,
    files: Files,
    having: NDArray[np.int64],
    patient_id_N: Text,
    sights: Mapping[Path, Sight],
) -> Seen:
    stack = isinstance(schema, VolumeSchema)
    found = {i: sights[files.source_N[i]] for i in having.tolist() if files.source_N[i] in sights}
    if not found:
        return Seen()
    of = f"of {counted(len(found), 'file')}"
    flat = [patient_id_N[i] for i, sight in found.items() if sight.flat]
    shapes = [sight.shape if stack else sight.shape[1:] for sight in found.values()]
    size, n = tuple(schema.size), schema.name
    smaller = sum(any(a < b for a, b in zip(shape, size, strict=True)) for shape in shapes)
    stretched = sum(_stretch(shape, size) > STRETCHED for shape in shapes)
    warnings = [
        (flat, f"{n}: {len(flat)} {of} show one grey value all over: patient {listed(flat, 5)}; is there a picture?"),
        (smaller, f"{n}: {smaller} {of} are smaller than {shape_text(size)} and are enlarged; a smaller size would do"),
        (stretched, f"{n}: {stretched} {of} have other proportions than {shape_text(size)} and are stretched"),
    ]
    texts = [text for odd, text in warnings if odd]
    texts += [text for kind in REMARKS if (text := _remarked(n, kind, of, found, patient_id_N))]
    texts += _mixed(n, of, [sight.lies for sight in found.values()], [sight.scale for sight in found.values()])
    common = Counter(shapes).most_common()
    words = shape_text(common[0][0])
    if len(common) > 1:
        words = f"{len(common)} sizes, most often {words} ({common[0][1]} {of})"
    return Seen(f"; files of {words}", tuple(texts))


def _remarked(name: str, kind: str, of: str, found: Mapping[int, Sight], patient_id_N: Text) -> str:
    """Return the warning of one kind, with the patients concerned and the first one's property.

    Empty if there is none.
    """
    seen = {i: r.seen for i, sight in found.items() for r in reversed(sight.remarks) if r.kind == kind}
    if not seen:
        return ""
    what, remedy = REMARKS[kind]
    who = listed((patient_id_N[i] for i in seen), 5)
    first = next(iter(seen.values()))
    return f"{name}: {len(seen)} {of} {what}: patient {who} ({first}); {remedy.format(name=name)}"


def _mixed(name: str, of: str, lies: list[str], scales: list[str]) -> list[str]:
    """Return warnings about files of one modality that differ in their orientation or in their brightness scale."""
    texts = []
    ways = Counter(one for one in lies if one).most_common()
    if len(ways) > 1:
        shown = ", ".join(f"{way} in {number}" for way, number in ways[:4])
        texts.append(
            f"{name}: {sum(number for _, number in ways[1:])} {of} lie in another direction than the rest: slices, "
            f"rows and columns run to {shown} (R, L, A, P, S, I); turn them alike, or declare modalities of their own"
        )
    own = scales.count("own")
    if 0 < own < len(scales):
        texts.append(
            f"{name}: {own} {of} do not say what is black and white, and are shown over the range of their own values, "
            f"the others over a range given; set window = [centre, width] in [modalities.{name}]"
        )
    return texts


def _stretch(shape: tuple[int, ...], size: tuple[int, ...]) -> float:
    """Return the factor by which height over width changes; at least 1."""
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
    """Return the text of a note; None if its file has changed."""
    try:
        return read_note(source) if isinstance(source, Path) else source
    except Unreadable:
        return None
