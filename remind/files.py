"""Writes files atomically and readable only by their owner, and makes CSV cells escape_formula for spreadsheets."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

OWNER_ONLY = 0o600  # for files about single patients
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def escape_formula(value: object) -> object:
    """Return a safe CSV cell: a text that a spreadsheet would run as a formula gets a quotation mark in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def make_private(path: Path) -> None:
    """Create an empty file that only its owner can read; an existing file stays as it is.

    Raises
    ------
    OSError
        The file cannot be created.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY))


def write_whole(path: Path, write: Callable[[Path], object], *, private: bool = False, durable: bool = False) -> None:
    """Create or replace a file atomically: after a crash it is either the old file or the complete result of `write`.

    Parameters
    ----------
    path
        The file; its folder must exist.
    write
        Function that writes the content to the path it receives, which is in the folder of `path`.
    private
        If True, only the owner can ever read the file.
    durable
        If True, it is on the disk when this returns, so that it outlives a power cut.
    """
    with whole(path, private=private, durable=durable) as partial:
        write(partial)


@contextlib.contextmanager
def whole(path: Path, *, private: bool = False, durable: bool = False) -> Iterator[Path]:
    """Do as `write_whole`: the block writes to the path it receives, which replaces `path` unless the block raises."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        if private:
            partial.unlink(missing_ok=True)
            make_private(partial)
        yield partial
        if private:
            partial.chmod(OWNER_ONLY)  # the block may have created a new file
        if durable:
            flush(partial)
        os.replace(partial, path)
        if durable:
            flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Flush a file, or a folder's list of files, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
