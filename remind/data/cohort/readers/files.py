"""Images, volumes and videos: reads a table of paths. Pixels are read later, when they are needed."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.contents import Files, Reading
from remind.data.cohort.problems import Problem
from remind.data.cohort.readers.wanted import Wanted, missing_words, one_row_each, patient_rows
from remind.data.cohort.schema import ImageSchema, VolumeSchema
from remind.data.cohort.sections import ImageSection, Section, VolumeSection
from remind.data.cohort.tabular import Source

FilesSection = ImageSection | VolumeSection


def read_files(source: Source, wanted: Wanted[FilesSection]) -> tuple[ImageSchema | VolumeSchema, Files] | None:
    """Read the paths of the patients' files without opening them. The examination reports files that do not exist."""
    patient_R = patient_rows(source, wanted)
    path_R = read_paths(source, wanted, wanted.section.path)
    if patient_R is None or wanted.position is None or path_R is None:
        return None
    known_R = one_row_each(source, wanted, patient_R)
    source_N = np.full(len(wanted.position), None, dtype=object)
    source_N[patient_R[known_R]] = path_R[known_R]
    return _schema(wanted.name, wanted.section), Files(source_N, _reading(wanted.section))


def no_files(
    name: str, section: FilesSection, n: int, problems: list[Problem]
) -> tuple[ImageSchema | VolumeSchema, Files]:
    """Images or volumes that none of the n patients of this site has."""
    return _schema(name, section), Files(np.full(n, None, dtype=object), _reading(section))


def read_paths(source: Source, wanted: Wanted[Section], column: str) -> NDArray[np.object_] | None:
    """Return the path in each row, (R,); relative paths start from the cohort's folder; None if the cell is empty."""
    if not source.has(column, f"{wanted.field}.path"):
        return None
    codes_R, names = source.texts(column)
    missing_words(source, wanted.name, column, "no path", "which counts as none")
    paths: list[Path | None] = [wanted.folder / Path(name).expanduser() for name in names]
    found_R = np.empty(len(codes_R), dtype=object)
    found_R[:] = [paths[code] if code >= 0 else None for code in codes_R]
    return found_R


def _reading(section: FilesSection) -> Reading:
    return Reading(section.window, section.resize)


def _schema(name: str, section: FilesSection) -> ImageSchema | VolumeSchema:
    if isinstance(section, ImageSection):
        return ImageSchema(name=name, size=section.size, channels=section.channels)
    return VolumeSchema(kind=section.kind, name=name, size=section.size, channels=section.channels)
