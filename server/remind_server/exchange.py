"""One exchange with the sites over a Flower Grid: send, collect until the deadline, name who did not answer."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from remind.quoting import quoted

log = logging.getLogger(__name__)
ATTEMPTS = 3  # of asking the SuperLink for something
PAUSE = 1.0  # seconds before the second attempt; one more before each further one
MOST_ERROR = 1000  # characters of what Flower says of a reply
LONGEST_PAUSE = 0.5  # seconds between two looks for replies

Result = TypeVar("Result")


@dataclass(frozen=True)
class Answer:
    """What came of one node: its record, or why there is none."""

    node_id: int
    record: RecordDict | None
    error: str = ""


def exchange(
    grid: Grid,
    contents: Iterable[tuple[int, RecordDict]],
    message_type: str,
    group_id: str,
    deadline: float,
    quorum: float = 1.0,
) -> Iterator[Answer]:
    """Send each node its own record and yield the answers one at a time, so that only one is held in memory.

    With quorum 1 answers come in the order of `contents`, whoever was first: sums then round alike in every run. Below
    1 they come as they arrive, and once that share has answered the rest are not waited for. A node to which nothing
    could be sent answers first, with that error.

    Parameters
    ----------
    deadline
        Seconds until the exchange closes; also each message's ttl, so that nothing stale is worked on later.
    quorum
        Share of the nodes whose answers close the exchange early.
    """
    node_of: dict[str, int] = {}
    unsent = []
    for node_id, record in contents:
        message_id = _push(grid, Message(record, node_id, message_type, ttl=deadline, group_id=group_id))
        if message_id:
            node_of[message_id] = node_id
        else:
            unsent.append(node_id)
    closes = time.monotonic() + deadline
    yield from (Answer(node_id, None, "could not be sent to") for node_id in unsent)
    needed, answered, pause = quorum * (len(node_of) + len(unsent)) - 1e-9, 0, 0.01
    waiting = list(node_of)
    while waiting and time.monotonic() < closes:
        came = False
        for message_id in list(waiting):
            reply = _pull(grid, message_id)
            if reply is None:
                if quorum == 1:
                    break
                continue
            came = True
            waiting.remove(message_id)
            answered += not reply.has_error()
            yield _answer(node_of[message_id], reply)
        if answered >= needed:
            break
        pause = 0.01 if came else min(2 * pause, LONGEST_PAUSE)
        if waiting and not came:
            time.sleep(pause)
    for message_id in waiting:  # out of time, or not waited for: take what lies there, name the rest
        reply = _pull(grid, message_id)
        yield _answer(node_of[message_id], reply) if reply else Answer(node_of[message_id], None, "no answer in time")


def patiently(what: str, call: Callable[[], Result]) -> Result:
    """Result of a call to the SuperLink. Flower does not retry an HTTP 500 and raises it here (flower §5).

    Raises
    ------
    Exception
        Whatever the transport raised at the last of `ATTEMPTS` attempts.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except Exception as error:  # whatever the transport raises
            log.warning("%s failed (%s), trying again", what, type(error).__name__)
            time.sleep(attempt * PAUSE)
    return call()


def _push(grid: Grid, message: Message) -> str | None:
    """Message id; None if it cannot be sent. Flower gives no id, or an empty one, for a node that is gone by now."""
    try:
        ids = patiently("sending", lambda: list(grid.push_messages([message])))
    except Exception as error:  # one node's message must not end the run
        log.error("sending failed: %s", quoted(error))
        return None
    return ids[0] if ids else None


def _pull(grid: Grid, message_id: str) -> Message | None:
    """The reply to one message, if it has come; a failing look is as good as none."""
    try:
        return next(iter(grid.pull_messages([message_id])), None)
    except Exception as error:  # whatever the transport raises
        log.warning("looking for replies failed (%s), trying again", type(error).__name__)
        return None


def _answer(node_id: int, reply: Message) -> Answer:
    if reply.has_error():
        said = quoted(reply.error.reason, MOST_ERROR, keep="\n")
        return Answer(node_id, None, f"error {reply.error.code}: {said}")
    return Answer(node_id, reply.content)
