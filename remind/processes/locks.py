"""Locks between processes; the system ends a lock with the process that holds it, however that ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from remind.errors import UserError
from remind.files import OWNER_ONLY


@contextmanager
def locked(path: Path, busy: str = "") -> Iterator[None]:
    """Within the block no other process, and no other thread, holds this lock.

    Parameters
    ----------
    path
        The lock's file, which is made if it is not there, its owner's alone, and stays; its folder exists.
    busy
        What to say if somebody else holds it; empty: wait until nobody does.

    Raises
    ------
    UserError
        `busy`.
    OSError
        The folder is not there, the file cannot be made, or the file system knows no locks.
    """
    path.parent.stat()  # `FileLock` would make a mistyped folder
    lock = FileLock(path, timeout=0 if busy else -1, mode=OWNER_ONLY, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(busy) from None
    try:
        yield
    finally:
        lock.release()
