"""The exchange of a round with secure aggregation: masked replies, then the shares that reveal their sums."""

from collections.abc import Mapping, Sequence

from flwr.serverapp import Grid

from remind.federation.site_weights import Spanning
from remind.secagg.limits import TOGETHER
from remind_server.outputs.records import Observer
from remind_server.rounds.course import Course
from remind_server.rounds.group_quorum import require_groups
from remind_server.rounds.member import Member
from remind_server.rounds.outcome import RoundOutcome
from remind_server.rounds.round_exchange import RoundExchange
from remind_server.rounds.sample import Sample
from remind_server.rounds.secure.aggregation import SecureAggregation
from remind_server.rounds.state import SomeState
from remind_server.rounds.tasks import Assignment


class MaskedExchange(RoundExchange):
    """An exchange whose replies the coordinator can read only in sum."""

    def __init__(self, course: Course, observers: Sequence[Observer], secure: SecureAggregation) -> None:
        super().__init__(course, observers)
        self.secure = secure

    def receivers(self, members: Sequence[Member]) -> Sequence[Member]:
        """Return all members that dealt keys: the masks of a block cancel only among all of its senders."""
        return self.secure.members

    def run(
        self,
        grid: Grid,
        state: SomeState,
        tasks: Mapping[int, Assignment],
        sample: Sample,
    ) -> RoundOutcome:
        """Collect masked answers, then the shares by which the sums can be read; see `RoundExchange.run`."""
        secure, model = self.secure, state.model.tensors
        tasks = secure.assignments(tasks, state.round)
        replies = secure.replies(tasks, model, state.round, self.parties.offline(sample.online))
        records = ((m, tasks[m.node_id].record()) for m in sample.members)
        for member, answer in self.parties.ask(grid, records, "train", state.round, replies.bounds()):
            self.roster.record_answer(member, answer)
            replies.take(member.name, answer)
            self.report_settled([member.name], replies.absent)
        self.left_out.update(replies.left_out)
        self.note_budgets(replies, state.round)
        replies.require(self.roster.needed, self.roster.requirement)
        require_groups(self.parties, replies.answered, replies.absent, replies.how)
        opened = secure.opened(grid, replies, tasks, model)
        spans = isinstance(self.parties.methods.weighing, Spanning)
        return RoundOutcome(
            average=opened.average,
            measured={TOGETHER: opened.losses} if spans else {},
            losses=opened.losses,
            validation={},
            answered=tuple(replies.answered),
            absent=replies.absent,
            how=dict(replies.how),
            late=replies.late,
            bytes_up=replies.bytes_up,
            trained=frozenset(opened.trained),  # of the others, own parts and λ stayed as they were
            withheld={m.name: frozenset(m.counts) for m in secure.members},
            privacy=dict(replies.privacy),
        )
