"""Locks between processes; the system releases a lock when its process ends, in every case."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from remind.errors import UserError
from remind.files import OWNER_ONLY


@contextmanager
def locked(path: Path, busy: str = "") -> Iterator[None]:
    """Hold this lock within the block, against other processes and other threads.

    Parameters
    ----------
    path
        The lock file, created if missing, private, and kept afterwards; its folder exists.
    busy
        Error text if the lock is taken; empty: wait.

    Raises
    ------
    UserError
        The lock is taken; the text is `busy`.
    OSError
        The folder is missing, the file cannot be created, or the file system does not support locks.
    """
    path.parent.stat()  # `FileLock` would create a mistyped folder
    lock = FileLock(path, timeout=0 if busy else -1, mode=OWNER_ONLY, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(busy) from None
    try:
        yield
    finally:
        lock.release()
