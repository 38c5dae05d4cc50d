"""Limit the size of a reply while Flower pulls it, before it is assembled.

A reply consists of pieces, each stored under its hash. If an array names one piece of 5 MB four hundred times, the site
sends 5 MB and the coordinator would assemble 2 GB. Therefore the limit applies to the received pieces, and to the sum
over all references to them. A reply that is too large becomes an error message of its site, like a lost reply.

Flower has no hook for this, so the function with which `HttpGrid.pull_messages` pulls is replaced. Other grids hold
replies in memory anyway.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from threading import Lock
from typing import Any

from remind.federation.bounds import Bounds
from remind_server.flower_internals import ObjectPullError, array_body, replace_pull_objects
from remind_server.flower_internals import pull_objects as _pull_objects

FEW_PIECES, PIECE = 32, 1 << 20  # Flower's pieces have 5 MB; a reply has six pieces besides those of its array
ENVELOPE = 1 << 20  # bytes that Flower adds around text and tensors

_most: ContextVar[int | None] = ContextVar("most bytes of a reply", default=None)


@contextmanager
def replies_within(bounds: Bounds) -> Iterator[None]:
    """Turn a reply with more bytes than this into an error of its site."""
    before = _most.set(ENVELOPE + 4 * bounds.text + bounds.buffer)  # a character has up to four bytes
    try:
        yield
    finally:
        _most.reset(before)


def pull_objects(object_ids: list[str], pull_object_fn: Callable[[str], bytes], **options: Any) -> dict[str, bytes]:
    """Do as Flower's function of this name, with a limit.

    Raises
    ------
    ObjectPullError
        The pieces, or the arrays assembled from them, exceed the limit.
    """
    most = _most.get()
    if most is None:
        return _pull_objects(object_ids, pull_object_fn, **options)
    if len(object_ids) > FEW_PIECES + most // PIECE:
        raise ObjectPullError("", f"the reply has {len(object_ids)} pieces, too many for {most} bytes")
    lock, pulled, number = Lock(), 0, count(1)

    def pull(object_id: str) -> bytes:
        nonlocal pulled
        content = pull_object_fn(object_id)
        with lock:
            pulled += len(content)
            if pulled > most:
                raise ObjectPullError("", f"the reply has more than {most} bytes in {next(number)} piece(s)")
            next(number)
        return content

    contents = _pull_objects(object_ids, pull, **options)
    if (size := assembled(contents)) > most:
        raise ObjectPullError("", f"the reply has {size} bytes when assembled, more than {most}")
    return contents


def assembled(contents: dict[str, bytes]) -> int:
    """Return the size in bytes of all arrays in these objects after assembly.

    Raises
    ------
    ObjectPullError
        An array cannot be read.
    """
    size = 0
    for content in contents.values():
        if (found := array_body(content)) is not None:
            children, body = found
            try:
                pieces = json.loads(body)["arraychunk_ids"]
                size += sum(len(contents[children[piece]]) for piece in pieces)
            except (ValueError, KeyError, IndexError, TypeError, RecursionError):
                raise ObjectPullError("", "the reply has an array that cannot be read") from None
    return size


replace_pull_objects(pull_objects)
