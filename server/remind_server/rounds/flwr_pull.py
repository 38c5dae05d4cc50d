"""Limit the size of a reply while Flower pulls it, before it is assembled.

A reply comes in pieces, each under its hash. One piece of 5 MB that an array names four hundred times costs a site 5 MB
to send and the coordinator 2 GB to put together. So the pieces are counted as they come, and once more as often as they
are named. A reply that is too large comes back as an error message of its site, as one that is lost does.

Flower offers no place for this; the function that `HttpGrid.pull_messages` pulls with is
replaced. Other grids hold replies in memory anyway.
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

FEW_PIECES, PIECE = 32, 1 << 20  # Flower's pieces have 5 MB; a reply has six more than its array has
ENVELOPE = 1 << 20  # bytes of Flower's own around text and tensors

_most: ContextVar[int | None] = ContextVar("most bytes of a reply", default=None)


@contextmanager
def replies_within(bounds: Bounds) -> Iterator[None]:
    """Within: a reply of more bytes than this is an error of its site."""
    before = _most.set(ENVELOPE + 4 * bounds.text + bounds.buffer)  # a character has up to four bytes
    try:
        yield
    finally:
        _most.reset(before)


def pull_objects(object_ids: list[str], pull_object_fn: Callable[[str], bytes], **options: Any) -> dict[str, bytes]:
    """Flower's, with a limit.

    Raises
    ------
    ObjectPullError
        As soon as the pieces, or the arrays they make, are larger than a reply may be.
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
        raise ObjectPullError("", f"the reply has {size} bytes when put together, more than {most}")
    return contents


def assembled(contents: dict[str, bytes]) -> int:
    """Bytes of all arrays of these objects, put together.

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
