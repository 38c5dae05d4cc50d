"""What is wrong with one file, without a word of what stands in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

DAMAGED = "export it again from where it came"


class Unreadable(Exception):  # noqa: N818  (what it says of a file; mistakes of users are UserError)
    """A file that cannot be used.

    Attributes
    ----------
    what, remedy
        As in `remind.data.cohort.problems.Problem`; the file's name is for the caller to add.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


@contextmanager
def reading() -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into `Unreadable`.

    Libraries raise anything from KeyError to RecursionError on damaged files. Of those only the type is told: their
    messages may quote what they read, which is a patient's.
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
        if error.errno is None:  # a library's own, as Pillow's for a file that ends too soon
            raise Unreadable(f"is damaged ({type(error).__name__})", DAMAGED) from None
        reason = os.strerror(error.errno).lower()
        raise Unreadable(f"cannot be opened: {reason}", "see to it that this user can read it") from None
    except Exception as error:
        raise Unreadable(f"is damaged ({type(error).__name__})", DAMAGED) from None


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Say of a folder's problem in which of its files, `name`, it is."""
    try:
        with reading():
            yield
    except Unreadable as error:
        raise Unreadable(f"{name} in it: {error.what}", error.remedy) from None
