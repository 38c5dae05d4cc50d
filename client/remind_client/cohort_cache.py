"""The site's cohort, read once per process as long as its files stay as they are."""

from functools import lru_cache
from pathlib import Path

from remind.data.cohort import Cohort
from remind.data.read import read_cohort

Stamp = tuple[tuple[str, int, int], ...]


def cached_cohort(path: str | Path) -> Cohort:
    """Like `read_cohort`; a second call costs a look at the files' sizes and times.

    A change of declared files outside the cohort's folder (``root = …`` in cohort.toml) is not seen: restart the site.
    """
    return _read(str(path), _stamp(Path(path)))


@lru_cache(maxsize=1)
def _read(path: str, stamp: Stamp) -> Cohort:
    del stamp
    return read_cohort(path)


def _stamp(path: Path) -> Stamp:
    """Sizes and times of the cohort's files; nothing for a cohort that is not there, which `read_cohort` will say."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [f for f in files if f.is_file()]
    return tuple((str(f), (s := f.stat()).st_size, s.st_mtime_ns) for f in files)
