"""Opens every file a cohort names, once: a damaged one is found before training, not in the middle of it.

What was found is remembered per file, with its size and time of change, in the user's cache folder; so the processes of
a simulation do not decode the same pictures again and again. Without a writable cache it only takes longer.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from remind.data.contents import Contents, Files, Texts
from remind.data.files import Unreadable, examine_image, examine_volume, read_note
from remind.data.schema import ImageSchema, ModalitySchema, VolumeSchema
from remind.files import write_whole
from remind.version import VERSION

FEW = 64  # files that are not worth starting processes for
MOST_JOBS = 8


@dataclass(frozen=True)
class Finding:
    """Why a file cannot be used, in words, and what to do about it; `what` is empty where nothing is wrong."""

    what: str = ""
    remedy: str = ""


def examine(schema: ModalitySchema, contents: Contents) -> dict[int, Finding]:
    """What is wrong with the patients' files, by position; of a modality without files, nothing."""
    if not isinstance(contents, Texts):
        return {}
    at = {i: source for i, source in enumerate(contents.source_N) if isinstance(source, Path)}
    if not at:
        return {}
    key = f"{VERSION} {schema.model_dump_json(exclude={'name'})} {getattr(contents, 'reading', '')}"
    found = _examine_files(dict.fromkeys(at.values()), key, partial(_examine_one, schema, contents))
    return {i: found[path] for i, path in at.items() if found[path].what}


def _examine_files(paths: Iterable[Path], key: str, one: "partial[Finding]") -> dict[Path, Finding]:
    """Finding on each path, from memory where the file is as it was."""
    stamps = {path: _stamp(path) for path in paths}
    memory = _memory(key, stamps)
    known = _recall(memory)
    found = {
        path: Finding(*known[str(path)][1:])
        for path, stamp in stamps.items()
        if stamp and known.get(str(path), ("",))[0] == stamp
    }
    fresh = [path for path in stamps if path not in found]
    jobs = min(MOST_JOBS, os.cpu_count() or 1)
    if len(fresh) <= FEW or jobs == 1:
        found |= zip(fresh, map(one, fresh), strict=True)
    else:
        found |= _in_parallel(fresh, one, jobs)
    if fresh:
        _remember(memory, {str(p): (stamps[p], f.what, f.remedy) for p, f in found.items()})
    return found


def _in_parallel(paths: list[Path], one: "partial[Finding]", jobs: int) -> dict[Path, Finding]:
    """Findings by several processes; by this one where none can be started (a script without a main guard)."""
    try:
        with ProcessPoolExecutor(jobs, mp_context=get_context("forkserver")) as pool:
            return dict(zip(paths, pool.map(one, paths, chunksize=16), strict=True))
    except BrokenProcessPool:
        return dict(zip(paths, map(one, paths), strict=True))


def _examine_one(schema: ModalitySchema, contents: Texts, path: Path) -> Finding:
    try:
        if isinstance(schema, ImageSchema) and isinstance(contents, Files):
            examine_image(path, schema.size, schema.channels, contents.reading.window, contents.reading.resize)
        elif isinstance(schema, VolumeSchema) and isinstance(contents, Files):
            examine_volume(path, schema.size, schema.channels, contents.reading.window, contents.reading.resize)
        elif not read_note(path):
            return Finding("the note is empty", "remove its row, so that the patient counts as having no note")
    except Unreadable as error:
        return Finding(error.what, error.remedy)
    return Finding()


def _stamp(path: Path) -> str:
    """Changes when the file does; of a folder, when a file in it does."""
    try:
        found = [path, *sorted(path.iterdir())] if path.is_dir() else [path]
        return " ".join(f"{s.st_size}.{s.st_mtime_ns}" for s in (one.stat() for one in found))
    except OSError:
        return ""


def _memory(key: str, stamps: Mapping[Path, str]) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "federated-remind" / "examined"
    where = hashlib.sha256("\0".join([key, *sorted({str(path.parent) for path in stamps})]).encode()).hexdigest()
    return folder / f"{where[:32]}.json"


def _recall(memory: Path) -> dict[str, tuple[str, str, str]]:
    try:
        return {path: (s, what, remedy) for path, (s, what, remedy) in json.loads(memory.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _remember(memory: Path, findings: Mapping[str, tuple[str, str, str]]) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_whole(memory, lambda path: path.write_text(json.dumps(findings)))
    except OSError:  # a read-only container: the files are examined again next time
        return


def mask_of(findings: Mapping[int, Finding], n: int) -> np.ndarray:
    """Patients with a finding, (n,) bool."""
    mask_N = np.zeros(n, dtype=bool)
    mask_N[list(findings)] = True
    return mask_N
