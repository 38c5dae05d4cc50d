"""The roster: sites that take part, by node, with their groups; and refused sites with the reason."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from flwr.serverapp import Grid
from pydantic import ValidationError

from remind.config import Config
from remind.data.cohort.schema import CohortSchema, difference
from remind.errors import UserError, several
from remind.federation.bounds import NO_TENSORS
from remind.federation.flower import from_record, to_record
from remind.federation.message_types import first_problem
from remind.federation.messages import Enrol, Enrolment, PrivacySpent, Refusal
from remind.quoting import SHORT, printable, quoted, reason
from remind.seeds import derive
from remind.version import VERSION
from remind_server.outputs.tables import ALL
from remind_server.rounds.clock import clock_of
from remind_server.rounds.exchange import Answer, exchange, patiently
from remind_server.rounds.flwr_pull import replies_within
from remind_server.rounds.member import Member

log = logging.getLogger("flwr")
FEWEST_COMPARED = 3  # minimum number of sites for a comparison of their sizes
NEVER_CONNECTED = "never connected"
SETTLE = 0.25  # seconds between two polls of the list of nodes, until it no longer grows


class Roster:
    """Members of a run. Identity is Flower's node; a name given at registration wins over what a message says.

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
        self.left: dict[str, str] = {}  # members that take no further part in rounds, with round and reason
        self.privacy: dict[str, PrivacySpent] = {}  # what members told last of their privacy budgets
        self.silent: set[int] = set()  # nodes that had not answered when their last round closed
        self.connected = 0  # number of nodes at the last poll
        self._asked: set[int] = set()
        self._looks = 0
        self._silences: Counter[int] = Counter()
        self._patience: dict[int, int] = {}

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
    def asks(self) -> str:
        """The same as text, for errors."""
        automatic = "" if self.config.federation.min_sites else f" (more than half of {len(self._named)} enrolled)"
        return f"federation.min-sites asks for {self.needed}{automatic if self._named else ''}"

    def missing(self) -> dict[str, str]:
        """Expected hospitals that are neither members nor refused: they never connected."""
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
            "privacy": {name: told.model_dump() for name, told in self.privacy.items()},
        }

    def restore(self, remembered: Mapping[str, Any]) -> None:
        """Restore the members of a checkpoint. They are not connected until they enrol again."""
        self.schema = CohortSchema.model_validate(remembered["schema"])
        self._named |= set(remembered["named"])
        self.refused, self.left = dict(remembered["refused"]), dict(remembered.get("left", {}))
        told = remembered.get("privacy", {}).items()
        self.privacy = {name: PrivacySpent.model_validate(spent) for name, spent in told}
        gone = (Member.of(found, -number) for number, found in enumerate(remembered["members"], 1))
        self.members = {member.node_id: member for member in gone}

    def counts(self) -> dict[int, int]:
        """Global n_k over all members, groups ascending."""
        total: Counter[int] = Counter()
        for member in self.members.values():
            total.update(member.counts)
        return dict(sorted(total.items()))

    def online(self, grid: Grid) -> list[Member]:
        """Members whose node is online now, by name: the order of all sums."""
        here = set(patiently("listing nodes", lambda: list(grid.get_node_ids())))
        return sorted((m for m in self.members.values() if m.node_id in here), key=lambda m: m.name)

    def leave_out(self, member: Member, why: str) -> None:
        """Let a member take no part any more."""
        self.members.pop(member.node_id, None)
        self.refused[member.name] = why

    def note(self, member: Member, answer: Answer) -> None:
        """Record whether a member answered. The next exchange does not wait until the deadline for a silent member."""
        if answer.late:
            self.silent.add(member.node_id)
        else:
            self.silent.discard(member.node_id)

    def leave(self, name: str, round_: int, why: str) -> None:
        """Note that a member takes no further part in rounds; its final examination is still asked for."""
        self.left[name] = reason(f"left the run in round {round_ + 1}: {why}")
        log.warning("%s %s", name, self.left[name])

    def training(self, grid: Grid) -> list[Member]:
        """Members that can be asked for a round now, by name."""
        return [m for m in self.online(grid) if m.name not in self.left]

    def drawn(self, online: Sequence[Member], round_: int) -> list[Member]:
        """Return the connected members that a round asks, by name: at least the share `federation.participation`.

        The draw depends on the run's seed, the round and the members' names. The presence of other members does not
        change the order of two members.
        """
        federation = self.config.federation
        number = math.ceil(federation.participation * len(online) - 1e-9)
        lot = {m.name: derive(self.config.seed, "participation", round_, m.name) for m in online}
        asked = sorted(online, key=lambda m: lot[m.name])[: max(number, self.needed)]
        return sorted(asked, key=lambda m: m.name)

    def wait(self, grid: Grid) -> None:
        """Wait until enough sites are connected, and their number no longer grows.

        Raises
        ------
        UserError
            Too few are connected within a round's deadline; the error names the enrolled hospitals that are missing.
        """
        try:
            wait_for_nodes(grid, self.needed, self.config.federation.deadline)
        except UserError as error:
            here = {getattr(node, "name", "") for node in patiently("listing nodes", lambda: list(grid.get_nodes()))}
            gone = [f"{name}: not connected" for name in self.expected if name not in here]
            raise (several(str(error), gone) if gone else error) from None

    def enrol_newcomers(self, grid: Grid) -> list[Member]:
        """Ask new nodes to enrol; return the members that joined."""
        nodes = patiently("listing nodes", lambda: list(grid.get_nodes()))
        names = {int(node.node_id): quoted(getattr(node, "name", "")) for node in nodes}
        self.connected = len(names)
        self._named |= {name for name in names.values() if name}
        self._looks += 1
        fresh = [n for n in names if n not in self._asked and self._looks >= self._patience.get(n, 0)]
        if not fresh:
            return []
        request = to_record(Enrol(version=VERSION))
        answers = exchange(grid, ((n, request) for n in fresh), "query", "enrol", self.config.federation.deadline)
        self._replace_returned(names)
        with replies_within(NO_TENSORS):
            return self._admit(answers, names)

    def _replace_returned(self, names: Mapping[int, str]) -> None:
        """Remove a disconnected member whose registered name has a new node; otherwise it would count twice."""
        here = {name for name in names.values() if name}
        for member in [m for m in self.members.values() if m.node_id not in names and m.name in here and m.connected]:
            del self.members[member.node_id]

    def _admit(self, answers: Iterable[Answer], names: Mapping[int, str]) -> list[Member]:
        enrolments: dict[int, tuple[str, Enrolment, CohortSchema]] = {}
        for answer in answers:
            name = names[answer.node_id] or f"node {answer.node_id}"
            enrolment = self._read(answer, name)
            if enrolment is None:
                continue
            shown = names[answer.node_id] or enrolment.site
            try:
                schema = CohortSchema.model_validate(enrolment.cohort_schema)
            except ValidationError as error:
                self.refused[shown] = f"its schema cannot be read: {first_problem(error)}"
                continue
            if problem := _unfit(enrolment, schema):
                self.refused[shown] = reason(problem)
                continue
            enrolments[answer.node_id] = (shown, enrolment, schema)
        for node_id, problem in self._implausible(enrolments).items():
            self.refused[enrolments.pop(node_id)[0]] = problem
        if self.schema is None and enrolments:
            self.schema = _commonest(schema for _, _, schema in enrolments.values())
        return [m for node_id, given in enrolments.items() if (m := self._member(node_id, *given)) is not None]

    def _implausible(self, enrolments: Mapping[int, tuple[str, Enrolment, CohortSchema]]) -> dict[int, str]:
        """Return node → why its claimed number of patients is implausible. A site's weight grows with this number."""
        federation = self.config.federation
        claims = {node_id: sum(enrolment.counts.values()) for node_id, (_, enrolment, _) in enrolments.items()}
        found = {
            node_id: f"it claims {claimed} training patients; at most {federation.max_patients} are believed "
            "(federation.max-patients)"
            for node_id, claimed in claims.items()
            if claimed > federation.max_patients
        }
        others = [sum(m.counts.values()) for m in self.members.values() if m.node_id not in claims]
        believed = others + [claimed for node_id, claimed in claims.items() if node_id not in found]
        if len(believed) < FEWEST_COMPARED:
            return found
        usual = median(believed)
        return found | {
            node_id: f"it claims {claimed} training patients, {claimed / usual:.0f} times the median of "
            f"{len(believed)} sites (federation.max-patients-ratio allows {federation.max_patients_ratio:g})"
            for node_id, claimed in claims.items()
            if node_id not in found and claimed > federation.max_patients_ratio * usual
        }

    def _read(self, answer: Answer, name: str) -> Enrolment | None:
        """Return the enrolment in an answer; None if there is none, with the reason in `refused`."""
        if answer.record is None:
            self.refused[name] = reason(answer.error)
            self._silences[answer.node_id] += 1  # asked again, less often each time: an attempt costs a deadline
            self._patience[answer.node_id] = self._looks + 2 ** self._silences[answer.node_id] - 1
            return None
        self._asked.add(answer.node_id)
        try:
            message, _ = from_record(answer.record, NO_TENSORS)
        except ValueError as error:
            self.refused[name] = reason(f"its enrolment cannot be read: {error}")
            return None
        if isinstance(message, Enrolment):
            self.refused.pop(name, None)
            return message
        self.refused[name] = reason(message.reason) if isinstance(message, Refusal) else "it did not enrol"
        return None

    def _member(self, node_id: int, name: str, enrolment: Enrolment, schema: CohortSchema) -> Member | None:
        """Return the member; None if it is refused, with the reason in `refused`."""
        assert self.schema is not None
        if schema.fingerprint != self.schema.fingerprint:
            self.refused[name] = reason("another schema: " + "; ".join(difference(self.schema, schema)))
            return None
        for waiting in [m for m in self.members.values() if not m.connected and m.name == name]:
            del self.members[waiting.node_id]  # a member of a resumed run, which has enrolled again
        taken = {m.name for m in self.members.values()} | {ALL}  # tables use this word for all sites
        unique = f"{name} ({node_id})" if name in taken else name
        observed = frozenset(enrolment.observed) | frozenset(enrolment.counts)
        labels, held_out = dict(enrolment.labels), dict(enrolment.held_out)
        counts, minimum = dict(enrolment.counts), enrolment.minimum
        member = Member(node_id, unique, counts, observed, labels, held_out, minimum, enrolment.named)
        self.members[node_id] = member
        return member

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
        said = [f"{name}: {why}" for name, why in sorted((self.refused | self.missing()).items())]
        raise several(f"{len(self.members)} site(s) take part, {self.asks}", said)


def _unfit(enrolment: Enrolment, schema: CohortSchema) -> str:
    """Return why a site cannot take part, regardless of the others; empty if it can.

    The schema of a refused site does not count when the common schema is determined.
    """
    if enrolment.version != VERSION:
        return f"version {enrolment.version}; the coordinator has {VERSION}; install the same"
    if not enrolment.counts:
        return "no training patients"
    if any(name != printable(name) or len(name) > SHORT for name in (*schema.names, *schema.classes)):
        return f"a name of a class or a modality in its schema is longer than {SHORT} characters or does not print"
    if enrolment.fingerprint != schema.fingerprint:
        return "its fingerprint is not that of its schema"
    if max([*enrolment.counts, *enrolment.observed]) >> len(schema.modalities):
        return "it claims groups of modalities that its schema does not have"
    wrong = [
        k for k, n in enrolment.labels.items() if len(n) != len(schema.classes) or sum(n) != enrolment.counts.get(k)
    ]
    if wrong:
        return "its patients by class do not add up to its patients"
    if not enrolment.held_out.keys() <= enrolment.counts.keys():
        return "it holds out patients of groups that it does not train on"
    return ""


def wait_for_nodes(grid: Grid, at_least: int, deadline: float) -> None:
    """Wait until nodes are connected and their number no longer grows; in a simulation this takes about a second."""
    clock, before = clock_of(grid), -1
    closes = clock.now() + deadline
    while clock.now() < closes:
        now = len(patiently("listing nodes", lambda: list(grid.get_node_ids())))
        if now >= max(at_least, 1) and now == before:
            return
        before = now
        clock.sleep(SETTLE)
    raise UserError(f"{max(before, 0)} site(s) connected within {deadline:g} s; {max(at_least, 1)} needed")


def _commonest(schemas: Iterable[CohortSchema]) -> CohortSchema:
    """Return the schema that most sites have; among equals the first by fingerprint, so that order does not matter."""
    by_print = {}
    number: Counter[str] = Counter()
    for schema in schemas:
        by_print[schema.fingerprint] = schema
        number[schema.fingerprint] += 1
    return by_print[min(number, key=lambda fingerprint: (-number[fingerprint], fingerprint))]
