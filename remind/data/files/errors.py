"""The error for one unusable file. Its text never shows the content of the file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

DAMAGED = "export it again from where it came"


class Unreadable(Exception):  # noqa: N818  (what it says of a file; mistakes of users are UserError)
    """A file that cannot be used.

    Attributes
    ----------
    what, remedy
        As in `remind.data.cohort.problems.Problem`; the caller adds the name of the file.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


@contextmanager
def reading() -> Iterator[None]:
    """Convert every error during the reading of a file to `Unreadable`.

    On damaged files, libraries raise anything from KeyError to RecursionError. The message shows only the type of the
    error, because the library's message may quote what it read, which is patient data.
    """
    try:
        yield
    except Unreadable:
        raise
    except FileNotFoundError:
        raise Unreadable("no such file", "put it there, or correct the path") from None
    except IsADirectoryError:
        raise Unreadable("is a folder", "name a file") from None
    except MemoryError:
        raise Unreadable("does not fit into memory", "make it smaller, or give the process more memory") from None
    except OSError as error:
        if error.errno is None:  # raised by a library, such as Pillow for a truncated file
            raise Unreadable(f"is damaged ({type(error).__name__})", DAMAGED) from None
        reason = os.strerror(error.errno).lower()
        raise Unreadable(f"cannot be opened: {reason}", "make it readable for this user") from None
    except Exception as error:
        raise Unreadable(f"is damaged ({type(error).__name__})", DAMAGED) from None


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Add to the problem of a folder the `name` of the file that causes it."""
    try:
        with reading():
            yield
    except Unreadable as error:
        raise Unreadable(f"{name} in it: {error.what}", error.remedy) from None
