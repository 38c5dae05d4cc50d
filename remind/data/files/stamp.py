"""Detects that a file has changed without reading it."""

import hashlib
import os
from pathlib import Path


def stamp(path: Path) -> str:
    """Return a text that changes if a file is changed, replaced, or gets other permissions.

    For a folder, if any file in it does.

    It depends on size, location on the disk, the times of change of content and of metadata (owner, permissions, access
    lists), and whether this process may read the file. A copy with the old size and time therefore has another stamp.

    Returns
    -------
    32 hexadecimal digits; empty if the file does not exist or cannot be accessed.
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
