"""One exchange with the sites over a Flower Grid: send, collect until the deadline, name who did not answer."""

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

log = logging.getLogger(__name__)
ATTEMPTS = 3  # of handing the messages to the SuperLink
LONGEST_PAUSE = 0.5  # seconds between two looks for replies


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
    1 they come as they arrive, and once that share has answered the rest are not waited for.

    Parameters
    ----------
    deadline
        Seconds until the exchange closes; also each message's ttl, so that nothing stale is worked on later.
    quorum
        Share of the nodes whose answers close the exchange early.
    """
    node_of = _push(grid, contents, message_type, group_id, deadline)
    closes = time.monotonic() + deadline
    needed, answered, pause = quorum * len(node_of), 0, 0.01
    waiting = list(node_of)
    while waiting and (time.monotonic() < closes):
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


def _push(
    grid: Grid, contents: Iterable[tuple[int, RecordDict]], message_type: str, group_id: str, deadline: float
) -> dict[str, int]:
    """Hand the messages over one by one; message id → node id in the order of `contents`."""
    return {
        _push_one(grid, Message(record, node_id, message_type, ttl=deadline, group_id=group_id)): node_id
        for node_id, record in contents
    }


def _push_one(grid: Grid, message: Message) -> str:
    """Message id. Flower does not retry an HTTP 500 and raises it here, which would end the run (FLOWER.md)."""
    for attempt in range(1, ATTEMPTS):
        try:
            return next(iter(grid.push_messages([message])))
        except Exception as error:  # whatever the transport raises
            log.warning("sending failed (%s), trying again", type(error).__name__)
            time.sleep(attempt)
    return next(iter(grid.push_messages([message])))


def _pull(grid: Grid, message_id: str) -> Message | None:
    """The reply to one message, if it has come; a failing look is as good as none."""
    try:
        return next(iter(grid.pull_messages([message_id])), None)
    except Exception as error:  # whatever the transport raises
        log.warning("looking for replies failed (%s), trying again", type(error).__name__)
        return None


def _answer(node_id: int, reply: Message) -> Answer:
    if reply.has_error():
        return Answer(node_id, None, f"error {reply.error.code}: {reply.error.reason}")
    return Answer(node_id, reply.content)
