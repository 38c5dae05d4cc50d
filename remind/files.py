"""Writing files that are whole or absent."""

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Make or replace a file at once: killed or failing at any point, it is as before or as `write` leaves it.

    Parameters
    ----------
    path
        The file; its folder exists.
    write
        Writes the content to the path it is given, which lies beside the file.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
