"""Files that only their owner can read, and that are flushed to the disk when a call returns.

`write_private` replaces a file atomically, `create_private` creates a new file, `append_private` appends to one. For
files that are not private, or whose writer needs a path: `remind.files`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from remind.files import OWNER_ONLY, flush, write_whole

OWNER_FOLDER = 0o700


def private_folder(path: Path) -> Path:
    """Create a folder that only its owner can access, and its parents; an existing folder is not changed.

    Raises
    ------
    OSError
        The folder cannot be created.
    """
    path.mkdir(parents=True, exist_ok=True, mode=OWNER_FOLDER)
    return path


def write_private(path: Path, content: bytes | Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Create or replace a private file atomically: after a failure or a kill it has the old or the new content.

    Parameters
    ----------
    path
        The file; its folder exists.
    content
        The bytes, or a function that writes them into a given binary file.
    durable
        If False, it is not flushed to the disk: a kill of the process cannot damage it, a power cut can.

    Raises
    ------
    OSError
        The file cannot be written; it keeps its old content.
    """

    def write(partial: Path) -> None:
        with partial.open("wb") as out:
            if callable(content):
                content(out)
            else:
                out.write(content)
            if durable:
                sync(out)

    write_whole(path, write, private=True)
    if durable:
        flush(path.parent)


def create_private(path: Path, content: bytes) -> None:
    """Create a private file; if several processes do so at the same time, one succeeds.

    Raises
    ------
    FileExistsError
        The file exists already; it is not changed.
    OSError
        The file cannot be written; it does not exist then.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            sync(out)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    flush(path.parent)


def append_private(path: Path, content: bytes) -> None:
    """Append to a private file, created if missing, with a single write, so that writes of others do not interleave.

    Raises
    ------
    OSError
        The content cannot be written, or only partly; the caller must then check the end of the file.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "ab", buffering=0) as out:
            written = out.write(content)
            if written != len(content):
                raise OSError(f"{path}: only {written} of {len(content)} bytes were written")
            os.fsync(out.fileno())
    finally:
        flush(path.parent)


def sync(file: BinaryIO) -> None:
    """Flush an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())
