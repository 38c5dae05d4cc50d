"""One slot of secure aggregation at the coordinator: masked answers in, shares opened, sums out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from flwr.app import RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from remind.federation.bounds import NO_TENSORS, ORDINARY, Bounds
from remind.federation.flower import PeerRefusedError, read_as, to_record
from remind.federation.message_statistics import PrivacySpent
from remind.federation.secure_messages import MaskedAnswer, Unmask, Unmasked
from remind.quoting import reason
from remind.secagg.codec import Payload, nbytes_of, payload_of
from remind.secagg.coordinator import SecureSum
from remind.secagg.coordinator import TooFewError as TooFewShares
from remind_server.rounds.collect import GONE, LATE, LEFT, TooFewError, kind_of_absence, require_enough
from remind_server.rounds.exchange import Answer
from remind_server.rounds.member import Member
from remind_server.rounds.parties import Parties

Buffer = NDArray[np.uint8]


@dataclass
class MaskedReplies:
    """Masked replies of one slot. Memory holds the running sums alone.

    Attributes
    ----------
    absent, how
        Site → why it does not count, and its kind (`collect.HOW`).
    left_out
        Those whose answer came and was left out.
    privacy
        As in `RoundReplies`.
    withheld
        Block → why its sum could not be read.
    """

    parties: Parties
    total: SecureSum
    round: int
    absent: dict[str, str]
    answered: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    how: dict[str, str] = field(default_factory=dict)
    bytes_up: int = 0
    withheld: dict[str, str] = field(default_factory=dict)
    privacy: dict[str, PrivacySpent] = field(default_factory=dict)

    def __post_init__(self) -> None:
        left = self.parties.roster.left
        self.how |= {name: LEFT if name in left else GONE for name in self.absent}

    def bounds(self) -> Bounds:
        """Return the size limits of an answer."""
        return Bounds(ORDINARY.text, ORDINARY.values, sum(nbytes_of(n) for n in self.total.lengths.values()))

    def take(self, name: str, answer: Answer) -> None:
        """Add a site's answer, or note why it does not count."""
        try:
            if answer.record is None:
                raise ValueError(answer.error)
            message, buffer = read_as(answer.record, MaskedAnswer, self.bounds())
            if message.round != self.round:
                raise ValueError(f"answers round {message.round}, not {self.round}")
            if problem := self.total.problem(name, message.beside):
                raise ValueError(problem)
            payloads = _payloads(message, buffer)
        except ValueError as error:
            self._leave_out(name, answer, error)
            return
        self.total.add(name, message.beside, payloads)
        self.answered.append(name)
        if message.privacy is not None:
            self.privacy[name] = message.privacy
        self.bytes_up += buffer.nbytes

    def _leave_out(self, name: str, answer: Answer, error: ValueError) -> None:
        self.absent[name], self.how[name] = reason(error), kind_of_absence(answer, error)
        if answer.record is not None:
            self.left_out.append(name)

    def senders(self, block: str) -> int:
        """Return how many sites' answers are in the sum of a block."""
        return sum(block in self.total.plans[name].parts for name in self.answered)

    @property
    def late(self) -> tuple[str, ...]:
        """Sites that were asked and had not answered when the exchange closed."""
        return tuple(name for name, kind in self.how.items() if kind == LATE)

    def require(self, number: int, requirement: str) -> None:
        """Fail if fewer than `number` replies count; see `RoundReplies.require`."""
        require_enough(number, requirement, self.answered, self.absent, self.how)

    def open(self, grid: Grid, before: Callable[[], None] = lambda: None) -> dict[str, Payload]:
        """Ask the survivors for their shares, again where one does not answer; return the sums that could be read.

        Parameters
        ----------
        before
            Called before the first is asked: from then on the slot is used up.

        Raises
        ------
        TooFewError
            Too few answered, or opened their shares. Nothing was learnt; the round can be begun with other keys.
        """
        try:
            asks = self.total.share_requests()
            before()
            members = {m.name: m for m in self.parties.roster.members.values()}
            waiting = [members[name] for name in asks if name in members]
            for _ in range(1 + self.parties.config.federation.retries):
                records = ((m, to_record(Unmask(ask=asks[m.name]))) for m in waiting)
                waiting = self._asked(grid, records)
                if not waiting:
                    break
            sums, self.withheld = self.total.result()
        except TooFewShares as error:
            raise TooFewError(f"secure aggregation: {error}") from None
        return sums

    def _asked(self, grid: Grid, records: Iterable[tuple[Member, RecordDict]]) -> list[Member]:
        """Return those who did not open their shares."""
        silent = []
        for member, answer in self.parties.ask(grid, records, "query", self.round, NO_TENSORS):
            try:
                if answer.record is None:
                    raise ValueError(answer.error)
                message, _ = read_as(answer.record, Unmasked, NO_TENSORS)
                self.total.add_shares(member.name, message.opened)
            except PeerRefusedError as error:
                self.absent.setdefault(member.name, f"its share: {reason(error)}")
            except ValueError:
                silent.append(member)
        return silent


def _payloads(message: MaskedAnswer, buffer: Buffer) -> dict[str, Payload]:
    lengths = message.beside.lengths
    if buffer.size != sum(map(nbytes_of, lengths.values())):
        raise ValueError(f"its buffer has {buffer.size} bytes, not those of its blocks")
    found, start = {}, 0
    for block in sorted(lengths):
        size = nbytes_of(lengths[block])
        found[block] = payload_of(buffer[start : start + size], lengths[block])
        start += size
    return found
