"""What tells a changed file from the same one, without reading it."""

import hashlib
import os
from pathlib import Path


def stamp(path: Path) -> str:
    """Another text when a file changed, was replaced, or who may read it did; of a folder, when a file in it did.

    Size, place on the disk, the times of change of content and of the rest (owner, permissions, access lists), and
    whether this process may read it. A copy that was given the old size and time is another file all the same.

    Returns
    -------
    32 hexadecimal digits; nothing for a file that is not there or cannot be looked at.
    """
    try:
        found = [path, *sorted(path.iterdir())] if path.is_dir() else [path]
        parts = [_one(one) for one in found]
    except OSError:
        return ""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:32]


def _one(path: Path) -> str:
    s = path.stat()
    readable = os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
    return f"{path.name} {s.st_size} {s.st_dev} {s.st_ino} {s.st_mtime_ns} {s.st_ctime_ns} {readable}"
