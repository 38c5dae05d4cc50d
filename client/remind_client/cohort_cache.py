"""Cache of the site's cohort: a process reads it once and again only after its files changed."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from remind.data.cohort.cohort import Cohort
from remind.data.cohort.declaration import read_declaration
from remind.data.cohort.read import read_cohort
from remind.data.cohort.verdicts import Memory
from remind.errors import UserError

Stamp = tuple[tuple[str, int, int, int], ...]
_last: dict[str, tuple[Stamp, Cohort]] = {}  # of one path


def cached_cohort(path: str | Path, memory: Memory | None = None) -> Cohort:
    """Read the cohort as `read_cohort` does; a second call only compares the files' sizes and times.

    All files under the cohort's folder, and under the `root` that cohort.toml names, are compared, so a repaired or
    removed image is noticed. Files elsewhere that a table names are not: restart the site.
    """
    stamp = _stamp(Path(path))
    if (known := _last.get(str(path))) is not None and known[0] == stamp:
        return known[1]
    cohort = read_cohort(path, memory=memory)
    _last.clear()
    _last[str(path)] = stamp, cohort
    return cohort


def cohort_version(path: str | Path) -> str:
    """Return a digest of the files' sizes and times, which is another for every other state of the cohort."""
    return hashlib.sha256(repr(_stamp(Path(path))).encode()).hexdigest()


def _stamp(path: Path) -> Stamp:
    """Stamp the cohort's files by size and time. A missing cohort is no error here: `read_cohort` reports it."""
    roots = {path}
    with suppress(UserError):
        roots.add(read_declaration(path)[1])
    found = {}
    for root in roots:
        files = [root] if root.is_file() else [Path(f, name) for f, _, names in os.walk(root) for name in names]
        for file in files:
            try:
                s = file.stat()
            except OSError:  # gone meanwhile, or a link to nothing
                continue
            found[str(file)] = (s.st_size, s.st_mtime_ns, s.st_ctime_ns)
    return tuple((name, *times) for name, times in sorted(found.items()))
