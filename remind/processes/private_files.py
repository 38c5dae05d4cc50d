"""Files that only their owner can read, and that are on the disk when a call returns, even if the power fails then.

`write_private` replaces a file at once, `create_private` makes one that must not be there,
`append_private` adds to one. For files that are not private, or whose writer wants a path: `remind.files`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from remind.files import OWNER_ONLY, write_whole

OWNER_FOLDER = 0o700


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner can look into, and those above it; one that is there stays as it is.

    Raises
    ------
    OSError
        It cannot be made.
    """
    path.mkdir(parents=True, exist_ok=True, mode=OWNER_FOLDER)
    return path


def write_private(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Make or replace a private file at once: killed or failing at any point, it is as before or as it is to be.

    Parameters
    ----------
    path
        The file; its folder exists.
    content
        Its bytes, or a function that writes them into the binary file it is given.

    Raises
    ------
    OSError
        It cannot be written; the file is as it was.
    """

    def write(partial: Path) -> None:
        with partial.open("wb") as out:
            if callable(content):
                content(out)
            else:
                out.write(content)
            sync(out)

    write_whole(path, write, private=True)
    sync_folder(path.parent)


def create_private(path: Path, content: bytes) -> None:
    """Make a private file; of several processes that do so at once, one succeeds.

    Raises
    ------
    FileExistsError
        It is there already; it stays as it is.
    OSError
        It cannot be written; it is then not there.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            sync(out)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def append_private(path: Path, content: bytes) -> None:
    """Add to the end of a private file, which is made if it is not there; one write, so that no other comes between.

    Raises
    ------
    OSError
        It cannot be written, or not all of it; what the file then ends with must be looked at.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "ab", buffering=0) as out:
            written = out.write(content)
            if written != len(content):
                raise OSError(f"{path}: only {written} of {len(content)} bytes were written")
            os.fsync(out.fileno())
    finally:
        sync_folder(path.parent)


def sync(file: BinaryIO) -> None:
    """See what was written to an open file on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """See on the disk which files a folder has."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
