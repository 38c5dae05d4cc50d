"""A disk that takes nothing more: told apart from every other error, because whoever runs the site can cure it."""

import errno
from collections.abc import Iterator
from pathlib import Path

REASONS = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is full for this user (quota)",
    errno.EROFS: "is read-only",
}


def disk_error(error: BaseException) -> OSError | None:
    """The full, over-quota or read-only disk behind an error, if that is what it comes of."""
    return next((one for one in _chain(error) if isinstance(one, OSError) and one.errno in REASONS), None)


def reason(error: OSError) -> str:
    """``the disk is full``: words without a path."""
    return f"the disk {REASONS[error.errno or 0]}"


def in_words(error: OSError) -> str:
    """For the site's own people: which file, why, and what to do."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}cannot be written: {reason(error)}; make room there, or mount it so that this user can write"


def named(error: OSError, path: Path) -> OSError:
    """The same error with the file it is of, where the system did not say."""
    return error if error.filename else OSError(error.errno, error.strerror or str(error), str(path))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
