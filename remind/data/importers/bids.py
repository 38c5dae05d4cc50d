"""A BIDS folder of imaging (docs/importing.md): participants.tsv, and a volume per suffix such as T1w or FLAIR.

Letters: N participants.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from remind.data.cohort.problems import Problem, listed
from remind.data.importers.common import Summary, cohort_folder, write_declaration, write_table
from remind.data.importers.release import Progress, silent
from remind.errors import UserError, several
from remind.outcomes.base import LabelSection, outcomes

PARTICIPANTS, ID, MISSING = "participants.tsv", "participant_id", frozenset({"", "n/a"})
ENDS = (".nii.gz", ".nii")
_SUFFIX = re.compile(r"[A-Za-z0-9]+")
Row = Mapping[str, str | None]


@dataclass(frozen=True)
class BidsSettings:
    """What to import.

    Attributes
    ----------
    bids
        The folder with participants.tsv.
    out
        The new cohort.
    label
        Column of participants.tsv to predict.
    suffixes
        Image suffixes, a modality each.
    size
        Slices, height and width to which volumes are resized.
    columns
        Columns of participants.tsv that are a modality of their own, ``participant``; those without a number in every
        row are categories.
    site
        Column with the hospital; empty: one hospital.
    classes
        Classes in order; empty: those found, sorted. Not with `range`.
    range
        Smallest and largest number: the label is a number.
    """

    bids: Path
    out: Path
    label: str
    suffixes: tuple[str, ...] = ("T1w", "T2w", "FLAIR")
    size: tuple[int, int, int] = (32, 128, 128)
    columns: tuple[str, ...] = ()
    site: str = ""
    classes: tuple[str, ...] = ()
    range: tuple[float, float] | None = None


def import_bids(settings: BidsSettings, progress: Progress = silent) -> Summary:
    """Write a cohort with one example per participant; volumes stay where they are.

    Raises
    ------
    UserError
        participants.tsv lacks columns or has values that do not fit, or there is nothing to write.
    """
    with cohort_folder(settings.out) as folder:
        progress(f"reading {PARTICIPANTS}")
        rows = _rows(settings)
        labelled = [row for row in rows if row[settings.label] is not None]
        section, values = _label(settings, labelled)
        progress(f"looking for images of {len(labelled)} participants")
        found = [_images(settings.bids, str(row[ID]), settings.suffixes) for row in labelled]
        presence_Nm = np.array([[name in images for name in settings.suffixes] for images, _ in found], dtype=bool)
        presence_Nm = presence_Nm.reshape(len(found), len(settings.suffixes))  # also of nobody
        table_N = np.array([any(row[c] is not None for c in settings.columns) for row in labelled], dtype=bool)
        if settings.columns:
            presence_Nm = np.column_stack([presence_Nm, table_N])
        keep_N = np.asarray(presence_Nm.any(axis=1))
        if not keep_N.any():
            raise UserError(
                f"--bids {settings.bids}: no participant with a label has an image of {listed(settings.suffixes)}"
            )
        kept = [position for position in range(len(labelled)) if keep_N[position]]
        columns: dict[str, Any] = {"patient_id": [labelled[i][ID] for i in kept]}
        columns |= {"person": columns["patient_id"], "label": [values[i] for i in kept]}
        if settings.site:
            columns["site"] = [labelled[i][settings.site] or "unknown" for i in kept]
        write_table(folder, "patients", columns)
        modalities = _volumes(folder, settings, [(str(labelled[i][ID]), found[i][0]) for i in kept])
        if settings.columns:
            modalities["participant"] = _table(folder, settings.columns, [labelled[i] for i in kept])
        own = section.outcome
        comments = [
            "Written by: remind data import bids. One example is one participant, the first session with images."
        ]
        label = section.model_dump(mode="json", exclude_defaults=True)
        write_declaration(folder, settings.bids.resolve().name, own.strata, modalities, comments, label=label)
        (names,) = section.columns
        label_N = [names.names.index(v) if names.names else float(v) for v in columns["label"]]
        return Summary(
            folder=settings.out,
            modalities=tuple(modalities),
            classes=own.strata,
            presence_Nm=presence_Nm[keep_N],
            label_N=own.encode([np.array(label_N)]).label_R,
            persons=len(kept),
            left_out=(
                ("participants without a label", len(rows) - len(labelled)),
                ("participants without any of the modalities", int((~keep_N).sum())),
                ("later sessions with images", sum(more for _, more in found)),
            ),
        )


def _rows(settings: BidsSettings) -> list[Row]:
    """Read participants.tsv; n/a and empty cells become None."""
    path = settings.bids / PARTICIPANTS
    if wrong := [name for name in settings.suffixes if not _SUFFIX.fullmatch(name)]:
        raise UserError(f"--suffixes {wrong[0]!r}: name suffixes of BIDS, such as T1w, T2w, FLAIR")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, delimiter="\t")
            rows, there = list(table), list(table.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"--bids {path}: cannot be read: {why}; name the folder that holds {PARTICIPANTS}") from None
    wanted = [(ID, "BIDS wants it"), (settings.label, "name it with --label")]
    wanted += [(column, "name them with --columns") for column in settings.columns]
    wanted += [(settings.site, "name it with --site")] if settings.site else []
    problems = [Problem(PARTICIPANTS, "no such column", why, column=c) for c, why in wanted if c not in there]
    if settings.label in settings.columns:
        problems.append(Problem("--columns", f"has the label {settings.label!r}", "leave it out: it is the outcome"))
    if problems:
        raise several(f"{path} cannot be imported", map(str, problems))
    if not rows:
        raise UserError(f"{path}: has no participants below its header; add a row for each")
    cleaned: list[Row] = [
        {key: None if (text or "").strip() in MISSING else text.strip() for key, text in row.items()} for row in rows
    ]
    ids = [row[ID] for row in cleaned]
    if None in ids or len(set(ids)) < len(ids):
        raise UserError(f"{path}: {ID} must be filled in, and different in every row")
    return cleaned


def _label(settings: BidsSettings, rows: Sequence[Row]) -> tuple[LabelSection, list[Any]]:
    """Return the section [label] and each participant's label."""
    texts = [str(row[settings.label]) for row in rows]
    if settings.range is None:
        classes = settings.classes or tuple(sorted(set(texts)))
        if strange := sorted(set(texts) - set(classes)):
            raise UserError(
                f"{PARTICIPANTS}, column {settings.label!r}: {strange[0]!r} is none of --classes {listed(classes)}"
            )
        if len(classes) < 2:
            raise UserError(
                f"{PARTICIPANTS}, column {settings.label!r}: {len(classes)} class; a label needs two or more"
            )
        return outcomes()["classes"].section.model_validate({"classes": classes}), texts
    low, high = settings.range
    try:
        numbers = [float(text) for text in texts]
    except ValueError as error:
        raise UserError(f"{PARTICIPANTS}, column {settings.label!r}: {error}; leave --range out for classes") from None
    if beyond := [n for n in numbers if not low <= n <= high]:
        raise UserError(
            f"{PARTICIPANTS}, column {settings.label!r}: {beyond[0]:g} is outside of --range {low:g},{high:g}"
        )
    return outcomes()["regression"].section.model_validate({"kind": "regression", "range": (low, high)}), numbers


def _images(bids: Path, participant: str, suffixes: Sequence[str]) -> tuple[dict[str, Path], int]:
    """Return the images of the first session with any, by suffix, and how many later sessions have some.

    Of several images of a suffix (runs, reconstructions) it is the one of the first name.
    """
    folder = bids / participant
    sessions = sorted(path for path in folder.glob("ses-*") if path.is_dir()) or [folder]
    with_images = []
    for session in sessions:
        files = sorted(
            path for kind in ("anat", "dwi", "func", "perf", "pet") for path in (session / kind).glob("sub-*")
        )
        found: dict[str, Path] = {}
        for path in files:
            end = next((end for end in ENDS if path.name.endswith(end)), "")
            suffix = path.name.removesuffix(end).rpartition("_")[2] if end else ""
            if suffix in suffixes:
                found.setdefault(suffix, path)
        if found:
            with_images.append(found)
    return (with_images[0], len(with_images) - 1) if with_images else ({}, 0)


def _volumes(
    folder: Path, settings: BidsSettings, images: Sequence[tuple[str, Mapping[str, Path]]]
) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = {}
    for name in settings.suffixes:
        mine = [(participant, str(found[name].resolve())) for participant, found in images if name in found]
        sections[name] = {"kind": "volume", "size": settings.size, "resize": True}
        if mine:
            write_table(folder, name, {"patient_id": [p for p, _ in mine], "path": [path for _, path in mine]})
        else:
            sections[name]["absent"] = True
    return sections


def _table(folder: Path, columns: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:
    """Write the columns of the participants: numbers, or categories where a cell is no number."""
    content: dict[str, list[Any]] = {"patient_id": [row[ID] for row in rows]}
    levels: dict[str, tuple[str, ...]] = {}
    for column in columns:
        cells = [row[column] for row in rows]
        try:
            content[column] = [None if cell is None else float(cell) for cell in cells]
        except ValueError:
            content[column] = cells
            levels[column] = tuple(sorted({cell for cell in cells if cell is not None}))
    write_table(folder, "participant", content)
    fields: dict[str, Any] = {"kind": "table", "columns": tuple(columns)}
    return fields | ({"categories": levels} if levels else {})
