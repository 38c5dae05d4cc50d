"""Opens every file that a cohort names once, so that a damaged file is found before training and not during it.

Files that passed are cached (`verdicts`), so that the processes of a simulation do not decode the same pictures again.
Without a writable cache the examination only takes longer.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from remind.data.cohort.contents import Contents, OnePerPatient
from remind.data.cohort.file_kind import NOTHING_SEEN, FileKind
from remind.data.cohort.kind import kind_code, kind_of
from remind.data.cohort.modality_schema import ModalitySchema
from remind.data.cohort.verdicts import Good, Memory, UserMemory, Verdicts
from remind.data.files import Sight, Unreadable, is_dicom
from remind.data.files.errors import reading
from remind.data.files.stamp import stamp

FEW = 64  # for up to this many files, worker processes do not pay off
MOST_JOBS = 8


@dataclass(frozen=True)
class Finding:
    """Why a file cannot be used, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Examined:
    """Result of examining a modality's files.

    Attributes
    ----------
    findings
        Errors, by the patient's position. A file that passed has no entry.
    sights
        Properties of the pictures that passed.
    """

    findings: Mapping[int, Finding] = field(default_factory=dict)
    sights: Mapping[Path, Sight] = field(default_factory=dict)


def examine(schema: ModalitySchema, contents: Contents, memory: Memory | None = None) -> Examined:
    """Examine the patients' files; a modality without files has no findings.

    Parameters
    ----------
    memory
        Cache for the verdicts of files that passed; None: the user's cache folder.
    """
    if not isinstance(contents, OnePerPatient):
        return Examined()
    at = {i: source for i, source in enumerate(contents.source_N) if isinstance(source, Path)}
    asked = "\0".join([f"{schema.model_dump_json(exclude={'name'})} {contents.converted()}", *kind_code(schema)])
    return examine_paths(at, asked, partial(_look, schema, contents), memory)


def examine_paths(
    at: Mapping[int, Path], asked: str, look: Callable[[Path], Sight], memory: Memory | None = None
) -> Examined:
    """Examine the files at these positions.

    Parameters
    ----------
    asked
        All that a verdict depends on besides the file and the code of the readers.
    look
        Opens a file as it will be read, and raises `Unreadable` if it cannot be used; sent to worker processes.
    """
    if not at:
        return Examined()
    paths = list(dict.fromkeys(at.values()))
    folders = sorted({str(path.absolute().parent) for path in paths})
    verdicts = Verdicts(memory or UserMemory(), "\0".join([asked, *folders]))
    found = _examine_files(paths, verdicts, partial(_examine_one, look))
    findings = {i: one for i, path in at.items() if isinstance(one := found[path], Finding)}
    sights = {path: one.sight for path, one in found.items() if isinstance(one, Good) and one.sight != NOTHING_SEEN}
    return Examined(findings, sights)


def _examine_files(
    paths: Iterable[Path], verdicts: Verdicts, one: "partial[Finding | Good]"
) -> dict[Path, Finding | Good]:
    """Examine each path, or take its verdict from the cache if the file passed before and nothing has changed."""
    stamps = {path: stamp(path) for path in paths}
    found: dict[Path, Finding | Good] = {}
    for path, seen in stamps.items():
        if (known := verdicts.find(path, seen)) is not None:
            found[path] = known
    fresh = [path for path in stamps if path not in found]
    jobs = min(MOST_JOBS, os.cpu_count() or 1)
    if len(fresh) <= FEW or jobs == 1:
        found |= zip(fresh, map(one, fresh), strict=True)
    else:
        found |= _in_parallel(fresh, one, jobs)
    good = {path: verdict for path, verdict in found.items() if isinstance(verdict, Good)}
    if any(path in good for path in fresh):
        verdicts.keep(good, stamps)
    return found


def _in_parallel(paths: list[Path], one: "partial[Finding | Good]", jobs: int) -> dict[Path, Finding | Good]:
    """Examine files in several processes; in this one if none can be started (a script without a main guard)."""
    try:
        with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver")) as pool:
            return dict(zip(paths, pool.map(one, paths, chunksize=16), strict=True))
    except BrokenProcessPool:
        return dict(zip(paths, map(one, paths), strict=True))


def _look(schema: ModalitySchema, contents: OnePerPatient, path: Path) -> Sight:
    kind = kind_of(schema)  # looked up where it is needed: a kind that somebody added cannot be sent to a process
    assert isinstance(kind, FileKind)
    return kind.examine(schema, contents, path)


def _examine_one(look: Callable[[Path], Sight], path: Path) -> Finding | Good:
    try:
        sight = look(path)
        with reading():
            return Good(sight != NOTHING_SEEN and is_dicom(path), sight)
    except Unreadable as error:
        return Finding(error.what, error.remedy)


def mask_of(findings: Mapping[int, Finding], n: int) -> np.ndarray:
    """Return the patients with a finding as a mask, (n,) bool."""
    mask_N = np.zeros(n, dtype=bool)
    mask_N[list(findings)] = True
    return mask_N
