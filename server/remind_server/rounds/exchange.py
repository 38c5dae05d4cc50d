"""One exchange with the sites over a Flower Grid.

Send, collect until the deadline, report the sites without an answer.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from remind.quoting import quoted
from remind_server.rounds.clock import clock_of
from remind_server.rounds.shelf import Shelf

log = logging.getLogger(__name__)
ATTEMPTS = 3  # attempts of a call to the SuperLink
PAUSE = 1.0  # seconds before the second attempt; one second more before each further attempt
MOST_ERROR = 1000  # characters kept of Flower's error text
LONGEST_PAUSE = 0.5  # longest time in seconds between two polls for replies
_EXPIRED = (3, 4)  # Flower's ErrorCode: the message, or its reply, is no longer in its database
_OFFLINE = 5  # the node is no longer connected
WENT_OFFLINE = "went offline before it answered"
GRACE = 10.0  # minimum wait in seconds for a silent node after the others have answered

Result = TypeVar("Result")


@dataclass(frozen=True)
class Answer:
    """The result for one node: its record, or why there is none.

    Attributes
    ----------
    late
        The node had not answered when the exchange closed.
    gone
        The node could not be reached, or went offline before it answered.
    """

    node_id: int
    record: RecordDict | None
    error: str = ""
    late: bool = False
    gone: bool = False


def lifetime(deadline: float) -> float:
    """Return the time to live, in seconds, of a message whose exchange closes after `deadline`.

    It is longer than the deadline, because Flower discards an answer together with its expired message, and the
    coordinator fetches answers until after the close. It is not much longer, so that no site works on a task whose
    answer nobody waits for.
    """
    return 1.5 * deadline + 60.0


def exchange(
    grid: Grid,
    contents: Iterable[tuple[int, RecordDict]],
    message_type: str,
    group_id: str,
    deadline: float,
    quorum: float = 1.0,
    silent: Collection[int] = (),
) -> Iterator[Answer]:
    """Send each node its own record and yield the answers one at a time, so that only one is held in memory.

    Answers are fetched as they arrive. With quorum 1 they are yielded in the order of `contents`, so that sums round
    identically in every run; an answer that comes before its turn waits on disk. Below 1 they are yielded as they
    arrive, and the exchange closes when that share has answered. If nothing could be sent to a node, its answer is
    that error and comes first.

    Parameters
    ----------
    deadline
        Seconds until the exchange closes, by the grid's clock (`clock_of`). Answers until then count.
    quorum
        Share of the nodes whose answers close the exchange early.
    silent
        Nodes that did not answer the last time. After all others have answered, they get half that time again, at
        least `GRACE`. A dead node therefore costs one deadline, not one per round.
    """
    clock = clock_of(grid)
    began = clock.now()
    node_of: dict[str, int] = {}
    unsent = []
    for node_id, record in contents:
        message = Message(record, node_id, message_type, ttl=lifetime(deadline), group_id=group_id)
        if message_id := _push(grid, message):
            node_of[message_id] = node_id
        else:
            unsent.append(node_id)
    closes = clock.now() + deadline
    yield from (Answer(node_id, None, "could not be sent to", gone=True) for node_id in unsent)
    needed, answered, pause = quorum * (len(node_of) + len(unsent)) - 1e-9, 0, 0.01
    waiting, in_time = list(node_of), True
    late = f"no answer within {deadline:g} s"
    others = {message_id for message_id, node_id in node_of.items() if node_id not in silent}
    awaited = bool(others)  # whether a node is awaited that answered the last time
    with _InTurn(list(node_of) if quorum == 1 else []) as turn:
        while waiting and in_time:
            in_time = clock.now() < closes and answered < needed  # else: fetch what has arrived, for the last time
            came = False
            for message_id in list(waiting):
                reply = _pull(grid, message_id)
                if reply is None:
                    continue
                came = True
                waiting.remove(message_id)
                answered += not reply.has_error()
                yield from turn.take(message_id, _answer(node_of[message_id], reply, late))
            if awaited and waiting and others.isdisjoint(waiting):
                awaited, now = False, clock.now()
                soon = now + max((now - began) / 2, GRACE)
                if soon < closes:
                    closes, late = soon, f"no answer within {soon - began:.0f} s, nor the time before"
            pause = 0.01 if came else min(2 * pause, LONGEST_PAUSE)
            if waiting and in_time and not came:
                clock.sleep(min(pause, max(closes - clock.now(), 0.0)))
        for message_id in waiting:
            yield from turn.take(message_id, Answer(node_of[message_id], None, late, late=True))


class _InTurn:
    """Yields answers in the order of `order`; early answers wait on a shelf; other answers pass at once."""

    def __init__(self, order: list[str]) -> None:
        self._order = deque(order)
        self._early: dict[str, Answer] = {}
        self._shelf = Shelf()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shelf.close()

    def take(self, message_id: str, answer: Answer) -> Iterator[Answer]:
        """Return the answers that can be yielded after this one arrived."""
        if not self._order:
            yield answer
            return
        if message_id != self._order[0]:
            self._early[message_id] = self._put(message_id, answer)
            return
        self._order.popleft()
        yield answer
        while self._order and self._order[0] in self._early:
            early = self._early.pop(next_id := self._order.popleft())
            yield replace(early, record=self._shelf.take(next_id)) if next_id in self._shelf else early

    def _put(self, message_id: str, answer: Answer) -> Answer:
        if answer.record is None:
            return answer
        self._shelf.put(message_id, answer.record)
        return replace(answer, record=None)


def patiently(what: str, call: Callable[[], Result]) -> Result:
    """Call the SuperLink, and return the result. Flower does not retry an HTTP 500 and raises it here (flower §5).

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
    """Push a message; return its id, or None: Flower gives no id, or an empty one, for a node that is gone by now."""
    try:
        ids = patiently("sending", lambda: list(grid.push_messages([message])))
    except Exception as error:  # one node's message must not end the run
        log.error("sending failed: %s", quoted(error))
        return None
    return ids[0] if ids else None


def _pull(grid: Grid, message_id: str) -> Message | None:
    """Pull the reply to one message, if it has arrived; a failed call counts as no reply yet."""
    try:
        return next(iter(grid.pull_messages([message_id])), None)
    except Exception as error:  # whatever the transport raises
        log.warning("looking for replies failed (%s), trying again", type(error).__name__)
        return None


def _answer(node_id: int, reply: Message, late: str) -> Answer:
    if not reply.has_error():
        return Answer(node_id, reply.content)
    if reply.error.code in _EXPIRED:
        return Answer(node_id, None, late, late=True)
    if reply.error.code == _OFFLINE:
        return Answer(node_id, None, WENT_OFFLINE, gone=True)
    said = quoted(reply.error.reason, MOST_ERROR, keep="\n")
    return Answer(node_id, None, f"error {reply.error.code}: {said}")
