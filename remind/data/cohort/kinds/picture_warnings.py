"""Warnings: pictures that can be read but are probably a mistake (one grey value, stretched)."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from remind.data.cohort.contents import OnePerPatient
from remind.data.cohort.kind import Seen, Text
from remind.data.cohort.problems import counted, listed
from remind.data.files import Sight
from remind.data.files.pixels import HOLE, NOWHERE, RANGE, TILT, shape_text

STRETCHED = 1.25  # factor by which resizing may change a picture's proportions
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


def look(
    name: str, size: tuple[int, ...], files: OnePerPatient, patient_id_N: Text, sights: Mapping[Path, Sight]
) -> Seen:
    """Return the shapes of the patients' pictures and what is suspicious about them; `size`: what encoders receive."""
    having = np.flatnonzero(files.present())
    found = {i: sights[files.source_N[i]] for i in having.tolist() if files.source_N[i] in sights}
    if not found:
        return Seen()
    of = f"of {counted(len(found), 'file')}"
    flat = [patient_id_N[i] for i, sight in found.items() if sight.flat]
    shapes = [sight.shape[-len(size) :] for sight in found.values()]
    n = name
    smaller = sum(any(a < b for a, b in zip(shape, size, strict=True)) for shape in shapes)
    stretched = sum(_stretch(shape, size) > STRETCHED for shape in shapes)
    warnings = [
        (flat, f"{n}: {len(flat)} {of} show one grey value all over: patient {listed(flat, 5)}; is there a picture?"),
        (smaller, f"{n}: {smaller} {of} are smaller than {shape_text(size)} and are enlarged; a smaller size would do"),
        (stretched, f"{n}: {stretched} {of} have other proportions than {shape_text(size)} and are stretched"),
    ]
    texts = [text for affected, text in warnings if affected]
    texts += [text for kind in REMARKS if (text := _remarked(n, kind, of, found, patient_id_N))]
    texts += _mixed(n, of, [sight.orientation for sight in found.values()], [sight.scale for sight in found.values()])
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


def _mixed(name: str, of: str, orientations: list[str], scales: list[str]) -> list[str]:
    """Return warnings about files of one modality that differ in their orientation or in their brightness scale."""
    texts = []
    ways = Counter(one for one in orientations if one).most_common()
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
