"""Python objects that Arrow's own threads use while they read a file.

A thread of Arrow may hold the last reference to such an object, and drop it when the reading has long ended. If Python
ends at that moment, the thread is ended in the middle of it, and the process aborts with "terminate called without an
active exception". Therefore the code that lends an object waits until it is back.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 5.0  # seconds; Arrow needs microseconds, or the time of one block on a busy machine


@contextmanager
def lent(*things: object) -> Iterator[None]:
    """Context: Arrow reads from, or calls, these objects, and holds none of them when the block has ended.

    Keep no reader, buffer or file of Arrow's beyond the block: it would hold them too.
    """
    before = [sys.getrefcount(thing) for thing in things]
    try:
        yield
    finally:
        deadline = time.monotonic() + LONGEST
        while any(sys.getrefcount(thing) > n for thing, n in zip(things, before, strict=True)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.0001)  # lets the thread have the interpreter
