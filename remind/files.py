"""Writing files that are whole or absent, that only their owner can read, and that a spreadsheet does not run."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

OWNER_ONLY = 0o600  # for what tells of single patients
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def harmless(value: object) -> object:
    """A cell of a CSV file: a text that a spreadsheet would run as a formula gets a quotation mark in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def make_private(path: Path) -> None:
    """Make an empty file that only its owner can read; one that is there stays as it is.

    Raises
    ------
    OSError
        It cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY))


def write_whole(path: Path, write: Callable[[Path], object], *, private: bool = False) -> None:
    """Make or replace a file at once: killed or failing at any point, it is as before or as `write` leaves it.

    Parameters
    ----------
    path
        The file; its folder exists.
    write
        Writes the content to the path it is given, which lies beside the file.
    private
        Only the owner can read the file, at no time anybody else.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        if private:
            partial.unlink(missing_ok=True)
            make_private(partial)
        write(partial)
        if private:
            partial.chmod(OWNER_ONLY)  # `write` may have made a new file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
