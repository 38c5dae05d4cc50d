"""Errors of a full, over-quota or read-only disk.

They are distinguished from other errors because the operator can fix them.
"""

import errno
from collections.abc import Iterator
from pathlib import Path

REASONS = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is full for this user (quota)",
    errno.EROFS: "is read-only",
    errno.EFBIG: "takes no larger file from this process (its limit, ulimit -f, or the file system's)",
}


def disk_error(error: BaseException) -> OSError | None:
    """Return the disk error that caused this error, or None if another error did."""
    return next((one for one in _chain(error) if isinstance(one, OSError) and one.errno in REASONS), None)


def reason(error: OSError) -> str:
    """Return the reason as text without a path, such as ``the disk is full``."""
    return f"the disk {REASONS[error.errno or 0]}"


def in_words(error: OSError) -> str:
    """Return the message for the operator: which file, why, and what to do."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}cannot be written: {reason(error)}; free disk space there, or make it writable for this user"


def named(error: OSError, path: Path) -> OSError:
    """Return the error with its file name, if the operating system did not set one."""
    return error if error.filename else OSError(error.errno, error.strerror or str(error), str(path))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
