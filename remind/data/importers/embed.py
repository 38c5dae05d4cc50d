"""EMBED, the mammograms of Emory (docs/importing.md): four views of one breast in one exam, and its density."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd

from remind.data.cohort.problems import Problem, listed
from remind.data.importers.common import Summary, cohort_folder, write_declaration, write_table
from remind.data.importers.embed_tables import CLINICAL, IMAGES, VIEWS, densities, label_examples, pick_images
from remind.data.importers.release import Progress, ReleaseFile, open_file, silent, stop_at
from remind.errors import UserError

CLASSES = ("A", "B", "C", "D")  # BI-RADS density, 1 to 4 in the column tissueden
SIZE = (224, 224)
_COHORT_FOLDER = re.compile(r"cohort_?\d+")


@dataclass(frozen=True)
class EmbedSettings:
    """Settings of `remind data import embed`.

    Attributes
    ----------
    clinical, metadata
        The two tables of the release, whole or reduced.
    images
        Folder that holds ``cohort_1``, ``cohort_2``.
    out
        The new cohort.
    prefix
        First part of the paths in the table, if they do not contain a ``cohort_…`` folder.
    screening
        Whether to leave diagnostic exams out.
    absent_files
        What to do with a breast if one of its pictures is not on this disk.
    """

    clinical: Path
    metadata: Path
    images: Path
    out: Path
    prefix: str = ""
    screening: bool = False
    absent_files: Literal["error", "drop"] = "error"


def import_embed(settings: EmbedSettings, progress: Progress = silent) -> Summary:
    """Write a cohort with one example per exam and breast. The pictures stay in their folder.

    Raises
    ------
    UserError
        Files, columns or pictures are missing, or there is nothing to write.
    """
    with cohort_folder(settings.out) as folder:
        clinical, metadata = _open(settings, progress)
        images, images_out = pick_images(metadata.frame())
        density, clinical_out = densities(clinical.frame(), settings.screening)
        examples, examples_out = label_examples(images, density)
        images = images.merge(examples[["exam", "side"]])
        images["file"] = _files(images["path"], settings)
        present, absent_out = _on_disk(images, settings, progress)
        examples = examples.merge(present[["exam", "side"]].drop_duplicates())
        if examples.empty:
            raise UserError(
                f"{settings.metadata}: no breast is left that has a picture and a density; check that both tables are "
                "of one release"
            )
        return _write(folder, settings, examples, present, (*images_out, *clinical_out, *examples_out, *absent_out))


def _open(settings: EmbedSettings, progress: Progress) -> list[ReleaseFile]:
    """Open the clinical and the metadata table."""
    problems: list[Problem] = []
    tables = ((settings.clinical, CLINICAL), (settings.metadata, IMAGES))
    files = [open_file(path, types, problems, progress) for path, types in tables]
    if not settings.images.is_dir():
        problems.append(Problem("--images", f"there is no folder {settings.images}", "name the folder of cohort_1"))
    stop_at(problems, "EMBED")
    return [file for file in files if file is not None]


def _files(paths: "pd.Series[str]", settings: EmbedSettings) -> list[str]:
    """Find each picture on this disk."""
    root = settings.images.resolve()
    inside = {path: _inside(path, settings.prefix) for path in paths.unique()}
    if strange := [path for path, rest in inside.items() if rest is None]:
        reason = f"does not begin with --prefix {settings.prefix}" if settings.prefix else "has no folder cohort_…"
        what = f"{reason} ({len(strange)} paths in all)"
        remedy = "give with --prefix what its part before the folder --images is"
        raise UserError(str(Problem(settings.metadata.name, what, remedy, None, "anon_dicom_path", strange[0])))
    return [str(root / str(inside[path])) for path in paths]


def _inside(path: str, prefix: str) -> PurePosixPath | None:
    """Return the part of a recorded path inside the pictures' folder; None if it cannot be determined."""
    recorded = PurePosixPath(path)
    if ".." in recorded.parts:
        return None
    if prefix:
        before = PurePosixPath(prefix)
        return recorded.relative_to(before) if recorded.is_relative_to(before) else None
    starts = [i for i, part in enumerate(recorded.parts) if _COHORT_FOLDER.fullmatch(part)]
    if starts:
        return PurePosixPath(*recorded.parts[starts[0] :])
    return None if recorded.is_absolute() else recorded


def _on_disk(
    images: pd.DataFrame, settings: EmbedSettings, progress: Progress
) -> tuple[pd.DataFrame, list[tuple[str, int]]]:
    """Remove the breasts of which some picture is not on this disk.

    A picture that was not downloaded is not a missing modality: the whole breast is left out, or it is an error.
    """
    progress(f"looking for {len(images)} pictures")
    there_R = images["file"].map(lambda file: Path(file).is_file()).to_numpy(dtype=bool)
    absent = images[~there_R]
    if absent.empty:
        return images, []
    if settings.absent_files == "error":
        raise UserError(
            f"{len(absent)} of {len(images)} pictures are not on this disk: {listed(absent['file'], 3)}; check "
            "--images (it holds cohort_1, cohort_2), fetch them, or leave these breasts out with --absent-files drop"
        )
    lost = pd.MultiIndex.from_frame(absent[["exam", "side"]].drop_duplicates())
    keep_R = ~pd.MultiIndex.from_frame(images[["exam", "side"]]).isin(lost)
    return images[keep_R], [("breasts of which a picture is not on this disk", len(lost))]


def _write(
    folder: Path,
    settings: EmbedSettings,
    examples: pd.DataFrame,
    images: pd.DataFrame,
    left_out: tuple[tuple[str, int], ...],
) -> Summary:
    examples = examples.sort_values(["exam", "side"], ignore_index=True)
    examples["id"] = examples["exam"] + "-" + examples["side"]
    images = images.assign(id=images["exam"] + "-" + images["side"]).sort_values("id", ignore_index=True)
    label_N = examples["density"].to_numpy(dtype="int64") - 1
    labels = [CLASSES[label] for label in label_N]
    patients = {"patient_id": examples["id"].tolist(), "person": examples["person"].tolist(), "label": labels}
    write_table(folder, "patients", patients)
    presence_Nm = np.zeros((len(examples), len(VIEWS)), dtype=bool)
    modalities: dict[str, dict[str, Any]] = {}
    for i, view in enumerate(VIEWS):
        mine = images[images["view"] == view.name]
        presence_Nm[:, i] = examples["id"].isin(mine["id"])
        modalities[view.name] = {"kind": "image", "size": SIZE, "channels": 1}
        if mine.empty:
            modalities[view.name] |= {"absent": True}
        else:
            write_table(folder, view.name, {"patient_id": mine["id"].tolist(), "path": mine["file"].tolist()})
    exams = "screening exams" if settings.screening else "all exams"
    comments = [
        "Written by: remind data import embed. One example is one breast in one exam, a person has several.",
        f"Label: BI-RADS breast density. {exams.capitalize()}. Pictures are read where they lie.",
    ]
    write_declaration(folder, "embed", CLASSES, modalities, comments)
    persons = examples["person"].nunique()
    return Summary(settings.out, tuple(modalities), CLASSES, presence_Nm, label_N, persons, left_out)
