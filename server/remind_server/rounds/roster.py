"""The roster: sites that take part, by node, with their groups; and refused sites with the reason."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flwr.serverapp import Grid

from remind.config import Config
from remind.data.cohort.schema import CohortSchema
from remind.errors import UserError, several
from remind.federation.message_statistics import PrivacySpent
from remind.federation.participation import Draw, alike, by_share, systematic
from remind.quoting import reason
from remind.seeds import derive
from remind_server.rounds.exchange import Answer, patiently
from remind_server.rounds.member import Member

log = logging.getLogger("flwr")
NEVER_CONNECTED = "never connected"


class Roster:
    """Members of a run, by node; refused sites; members that withdrew.

    Attributes
    ----------
    schema
        The common schema; None before the first enrolment.
    members
        Node → member. The nodes of members of a resumed run are negative until they enrol again.
    refused
        Site → why it takes no part.
    left
        Member that takes no further part in rounds → round and reason.
    privacy
        Member → what it reported last of its privacy budget.
    silent
        Nodes that had not answered when their last round closed.

    Parameters
    ----------
    enrolled
        Names of the enrolled hospitals, from the consortium's ledger; empty without one.
    """

    def __init__(self, config: Config, enrolled: Iterable[str] = ()) -> None:
        self.config = config
        self._named = set(enrolled)
        self.schema: CohortSchema | None = None
        self.members: dict[int, Member] = {}
        self.refused: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.privacy: dict[str, PrivacySpent] = {}
        self.silent: set[int] = set()

    @property
    def expected(self) -> tuple[str, ...]:
        """Registered names of the hospitals that should take part: enrolled ones, and all that were ever connected.

        Virtual hospitals have no registered name and are not included.
        """
        return tuple(sorted(self._named))

    @property
    def needed(self) -> int:
        """Minimum number of sites of a run: `federation.min-sites`, else more than half of those expected."""
        return self.config.federation.min_sites or len(self._named) // 2 + 1

    @property
    def requirement(self) -> str:
        """The minimum as text, for errors."""
        automatic = "" if self.config.federation.min_sites else f" (more than half of {len(self._named)} enrolled)"
        return f"federation.min-sites asks for {self.needed}{automatic if self._named else ''}"

    def missing(self) -> dict[str, str]:
        """Return the expected hospitals that are neither members nor refused: they never connected."""
        known = {member.name for member in self.members.values()} | set(self.refused)
        return {name: NEVER_CONNECTED for name in self.expected if name not in known}

    def remembered(self) -> dict[str, Any]:
        """Return the members as JSON for a checkpoint. Nodes are not included: a resumed run has others."""
        schema = None if self.schema is None else self.schema.describe()
        members = [member.described() for member in sorted(self.members.values(), key=lambda m: m.name)]
        return {
            "schema": schema,
            "members": members,
            "named": sorted(self._named),
            "refused": dict(self.refused),
            "left": dict(self.left),
            "privacy": {name: spent.model_dump() for name, spent in self.privacy.items()},
        }

    def restore(self, remembered: Mapping[str, Any]) -> None:
        """Restore the members of a checkpoint. They are not connected until they enrol again."""
        self.schema = CohortSchema.model_validate(remembered["schema"])
        self._named |= set(remembered["named"])
        self.refused, self.left = dict(remembered["refused"]), dict(remembered.get("left", {}))
        reported = remembered.get("privacy", {}).items()
        self.privacy = {name: PrivacySpent.model_validate(spent) for name, spent in reported}
        members = (Member.of(found, -number) for number, found in enumerate(remembered["members"], 1))
        self.members = {member.node_id: member for member in members}

    def counts(self) -> dict[int, int]:
        """Return n_k over all members, groups ascending."""
        total: Counter[int] = Counter()
        for member in self.members.values():
            total.update(member.counts)
        return dict(sorted(total.items()))

    def online(self, grid: Grid) -> list[Member]:
        """Return the members whose node is online now, by name: the order of all sums."""
        here = set(patiently("listing nodes", lambda: list(grid.get_node_ids())))
        return sorted((m for m in self.members.values() if m.node_id in here), key=lambda m: m.name)

    def exclude(self, member: Member, why: str) -> None:
        """Remove a member from the run."""
        self.members.pop(member.node_id, None)
        self.refused[member.name] = why

    def record_answer(self, member: Member, answer: Answer) -> None:
        """Record whether a member answered. The next exchange does not wait until the deadline for a silent member."""
        if answer.late:
            self.silent.add(member.node_id)
        else:
            self.silent.discard(member.node_id)

    def withdraw(self, name: str, round_: int, why: str) -> None:
        """Record that a member takes no further part in rounds; the final examination still includes it."""
        self.left[name] = reason(f"left the run in round {round_ + 1}: {why}")
        log.warning("%s %s", name, self.left[name])

    def training(self, grid: Grid) -> list[Member]:
        """Return the members that can take part in a round now, by name."""
        return [m for m in self.online(grid) if m.name not in self.left]

    def draw(self, names: Sequence[str], round_: int, shares: Mapping[str, float]) -> Draw:
        """Draw those of these members that take part in a round: at least the share `federation.participation`.

        The draw depends on the run's seed, the round, the members' names, and with ``federation.draw = "share"`` on
        their shares of the objective. Without shares, the presence of other members does not change the order of two.
        """
        federation = self.config.federation
        number = min(max(math.ceil(federation.participation * len(names) - 1e-9), self.needed), len(names))
        unbiased = federation.estimate == "unbiased"
        if number == len(names):
            return replace(Draw.everybody(names), unbiased=unbiased)
        order = sorted(names, key=lambda name: derive(self.config.seed, "participation", round_, name))
        if federation.draw == "uniform":
            return Draw(alike(sorted(names), number), frozenset(order[:number]), unbiased)
        chances = by_share({name: shares[name] for name in names}, number)
        start = derive(self.config.seed, "participation start", round_) / 2**63
        return Draw(chances, systematic(chances, order, start), unbiased)

    def expect(self, names: Iterable[str]) -> None:
        """Add registered names to those of the hospitals that should take part."""
        self._named.update(names)

    def remove_replaced(self, names: Mapping[int, str]) -> None:
        """Remove a disconnected member whose registered name has a new node; otherwise it would count twice.

        Parameters
        ----------
        names
            Connected node → registered name.
        """
        here = {name for name in names.values() if name}
        for member in [m for m in self.members.values() if m.node_id not in names and m.name in here and m.connected]:
            del self.members[member.node_id]

    def remove_disconnected(self, name: str) -> None:
        """Remove a member of a resumed run that has not enrolled again."""
        for member in [m for m in self.members.values() if not m.connected and m.name == name]:
            del self.members[member.node_id]

    def withheld(self, reported: Mapping[str, Mapping[int, object]]) -> dict[str, frozenset[int]]:
        """Return reporting site → groups that it trains on and withheld, because they are below its minimum count."""
        return {
            m.name: frozenset(m.counts.keys() - reported[m.name].keys())
            for m in self.members.values()
            if m.minimum > 1 and m.name in reported and m.counts.keys() - reported[m.name].keys()
        }

    def require_members(self) -> None:
        """Raise an error with the other sites' reasons if fewer sites take part than the config requires."""
        if len(self.members) >= self.needed:
            return
        reasons = Counter(self.refused.values())
        if not self.members and len(reasons) == 1:  # one common mistake, not several
            raise UserError(next(iter(reasons)))
        lines = [f"{name}: {why}" for name, why in sorted((self.refused | self.missing()).items())]
        raise several(f"{len(self.members)} site(s) take part, {self.requirement}", lines)
