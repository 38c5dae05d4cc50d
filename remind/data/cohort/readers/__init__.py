"""One reader per kind of modality: converts the rows of a file to a schema and to the contents of the N patients."""

from collections.abc import Callable
from typing import Any

from remind.data.cohort.contents import Contents
from remind.data.cohort.problems import Problem
from remind.data.cohort.readers.codes import no_codes, read_codes
from remind.data.cohort.readers.files import no_files, read_files
from remind.data.cohort.readers.series import no_series, read_series
from remind.data.cohort.readers.table import no_table, read_table
from remind.data.cohort.readers.text import no_text, read_text
from remind.data.cohort.readers.wanted import Wanted
from remind.data.cohort.schema import ModalitySchema
from remind.data.cohort.sections import (
    CodesSection,
    ImageSection,
    Section,
    SeriesSection,
    TableSection,
    TextSection,
    VolumeSection,
)
from remind.data.cohort.tabular import Source

__all__ = ["Wanted", "absent", "read", "register"]

Found = tuple[ModalitySchema, Contents]
Read = Callable[[Source, Any], Found | None]
Absent = Callable[[str, Any, int, list[Problem]], Found]
_READ: dict[type[Section], Read] = {
    TableSection: read_table,
    SeriesSection: read_series,
    ImageSection: read_files,
    VolumeSection: read_files,
    TextSection: read_text,
    CodesSection: read_codes,
}
_ABSENT: dict[type[Section], Absent] = {
    TableSection: no_table,
    SeriesSection: no_series,
    ImageSection: no_files,
    VolumeSection: no_files,
    TextSection: no_text,
    CodesSection: no_codes,
}


def register(section: type[Section], absent: Absent) -> Callable[[Read], Read]:
    """Make a function the reader of a kind's section of cohort.toml, in place of the one that there is.

    Parameters
    ----------
    section
        The section's class, of `remind.data.cohort.sections`.
    absent
        Function that gives schema and contents at a site where no patient has the modality.
    """

    def add(reader: Read) -> Read:
        _READ[section], _ABSENT[section] = reader, absent
        return reader

    return add


def read(source: Source, wanted: Wanted[Section]) -> Found | None:
    """Read a modality from its open file. Problems are reported to the source."""
    return _READ[type(wanted.section)](source, wanted)


def absent(name: str, section: Section, n: int, problems: list[Problem]) -> Found:
    """Return a modality that no patient of this site has: its declared schema, and empty contents for n patients."""
    return _ABSENT[type(section)](name, section, n, problems)
