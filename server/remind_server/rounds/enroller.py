"""Enrol the sites that connect: ask, check the enrolment, admit to the roster or refuse with a reason."""

from collections import Counter
from collections.abc import Iterable, Mapping

from flwr.serverapp import Grid
from pydantic import ValidationError

from remind.config import Config
from remind.data.cohort.schema import CohortSchema, difference
from remind.federation.bounds import NO_TENSORS
from remind.federation.flower import from_record, to_record
from remind.federation.message_types import first_problem
from remind.federation.messages import Enrol, Enrolment, Refusal
from remind.quoting import quoted, reason
from remind.version import VERSION
from remind_server.outputs.tables import ALL
from remind_server.rounds.enrolment_checks import commonest_schema, enrolment_problem, implausible_claims
from remind_server.rounds.exchange import Answer, exchange, patiently
from remind_server.rounds.flwr_pull import replies_within
from remind_server.rounds.member import Member
from remind_server.rounds.roster import Roster


class Enroller:
    """Admits sites to a roster. Identity is Flower's node; a registered name wins over what a message says.

    Attributes
    ----------
    connected
        Number of nodes at the last poll.
    """

    def __init__(self, config: Config, roster: Roster) -> None:
        self.config, self.roster = config, roster
        self.connected = 0
        self._enrolled: set[int] = set()  # nodes that have answered
        self._polls = 0
        self._failures: Counter[int] = Counter()  # node → attempts without an answer
        self._next_attempt: dict[int, int] = {}  # node → number of the poll at which it is asked again

    def enrol_newcomers(self, grid: Grid) -> list[Member]:
        """Ask new nodes to enrol; return the members that joined."""
        nodes = patiently("listing nodes", lambda: list(grid.get_nodes()))
        names = {int(node.node_id): quoted(getattr(node, "name", "")) for node in nodes}
        self.connected = len(names)
        self.roster.expect(name for name in names.values() if name)
        self._polls += 1
        new = [n for n in names if n not in self._enrolled and self._polls >= self._next_attempt.get(n, 0)]
        if not new:
            return []
        request = to_record(Enrol(version=VERSION))
        answers = exchange(grid, ((n, request) for n in new), "query", "enrol", self.config.federation.deadline)
        self.roster.remove_replaced(names)
        with replies_within(NO_TENSORS):
            return self._admit(answers, names)

    def _admit(self, answers: Iterable[Answer], names: Mapping[int, str]) -> list[Member]:
        roster = self.roster
        enrolments: dict[int, tuple[str, Enrolment, CohortSchema]] = {}
        for answer in answers:
            enrolment = self._read(answer, names[answer.node_id] or f"node {answer.node_id}")
            if enrolment is None:
                continue
            shown = names[answer.node_id] or enrolment.site
            try:
                schema = CohortSchema.model_validate(enrolment.cohort_schema)
            except ValidationError as error:
                roster.refused[shown] = f"its schema cannot be read: {first_problem(error)}"
                continue
            if problem := enrolment_problem(enrolment, schema):
                roster.refused[shown] = reason(problem)
                continue
            enrolments[answer.node_id] = (shown, enrolment, schema)
        claims = {node_id: sum(enrolment.counts.values()) for node_id, (_, enrolment, _) in enrolments.items()}
        others = [sum(m.counts.values()) for m in roster.members.values() if m.node_id not in claims]
        for node_id, problem in implausible_claims(claims, others, self.config).items():
            roster.refused[enrolments.pop(node_id)[0]] = problem
        if roster.schema is None and enrolments:
            roster.schema = commonest_schema(schema for _, _, schema in enrolments.values())
        return [m for node_id, found in enrolments.items() if (m := self._member(node_id, *found)) is not None]

    def _read(self, answer: Answer, name: str) -> Enrolment | None:
        """Return the enrolment in an answer; None if there is none, with the reason in `refused`."""
        refused = self.roster.refused
        if answer.record is None:
            refused[name] = reason(answer.error)
            self._failures[answer.node_id] += 1  # asked again, less often each time: an attempt costs a deadline
            self._next_attempt[answer.node_id] = self._polls + 2 ** self._failures[answer.node_id] - 1
            return None
        self._enrolled.add(answer.node_id)
        try:
            message, _ = from_record(answer.record, NO_TENSORS)
        except ValueError as error:
            refused[name] = reason(f"its enrolment cannot be read: {error}")
            return None
        if isinstance(message, Enrolment):
            refused.pop(name, None)
            return message
        refused[name] = reason(message.reason) if isinstance(message, Refusal) else "it did not enrol"
        return None

    def _member(self, node_id: int, name: str, enrolment: Enrolment, schema: CohortSchema) -> Member | None:
        """Add the member to the roster and return it; None if it is refused, with the reason in `refused`."""
        roster = self.roster
        assert roster.schema is not None
        if schema.fingerprint != roster.schema.fingerprint:
            roster.refused[name] = reason("another schema: " + "; ".join(difference(roster.schema, schema)))
            return None
        roster.remove_disconnected(name)  # a member of a resumed run, which has enrolled again
        taken = {m.name for m in roster.members.values()} | {ALL}  # tables use this word for all sites
        member = Member(
            node_id,
            f"{name} ({node_id})" if name in taken else name,
            dict(enrolment.counts),
            frozenset(enrolment.observed) | frozenset(enrolment.counts),
            dict(enrolment.labels),
            dict(enrolment.held_out),
            enrolment.minimum,
            enrolment.named,
        )
        roster.members[node_id] = member
        return member
