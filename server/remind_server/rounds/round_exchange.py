"""The exchange of a round: send the tasks, check the replies as they arrive, and combine them."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from flwr.serverapp import Grid

from remind.federation.bounds import largest
from remind.federation.drawn_average import DrawnAverage
from remind.federation.site_weights import Losses
from remind.metrics.statistics import merge
from remind_server.outputs.records import Observer
from remind_server.rounds.collect import LEFT, RoundReplies, report_bounds
from remind_server.rounds.course import Course
from remind_server.rounds.group_quorum import require_groups
from remind_server.rounds.member import Member
from remind_server.rounds.outcome import RoundOutcome
from remind_server.rounds.parties import Parties
from remind_server.rounds.sample import Sample
from remind_server.rounds.secure.masked_replies import MaskedReplies
from remind_server.rounds.state import SomeState
from remind_server.rounds.tasks import Assignment


class RoundExchange(ABC):
    """One exchange of messages with the members.

    Attributes
    ----------
    left_out
        Site → number of received answers that did not count.
    """

    def __init__(self, course: Course, observers: Sequence[Observer]) -> None:
        self.course, self.observers = course, observers
        self.parties: Parties = course.parties
        self.roster = self.parties.roster
        self.left_out: Counter[str] = Counter()

    @abstractmethod
    def receivers(self, members: Sequence[Member]) -> Sequence[Member]:
        """Return the members whose tasks are made, if these members take part in the round."""

    @abstractmethod
    def run(
        self,
        grid: Grid,
        state: SomeState,
        tasks: Mapping[int, Assignment],
        sample: Sample,
    ) -> RoundOutcome:
        """Send the tasks to the members of the sample, and combine their replies.

        Parameters
        ----------
        tasks
            Node → task.
        sample
            The members that take part in the round.

        Raises
        ------
        TooFewError
            Too few replies count; they would suffice if those who are late or gone come back.
        UserError
            Too few replies count, and they would not suffice.
        """

    def report_settled(self, names: Iterable[str], absent: Mapping[str, str]) -> None:
        """Tell the observers which replies are now known to count or to be left out."""
        for name in names:
            for observer in self.observers:
                observer.answer_taken(name, absent.get(name))

    def note_budgets(self, replies: RoundReplies | MaskedReplies, round_: int) -> None:
        """Note what the sites report of their privacy budgets, and which sites left because it is used up."""
        for name in [name for name, kind in replies.how.items() if kind == LEFT and name not in self.roster.left]:
            self.roster.withdraw(name, round_, replies.absent[name])
        self.roster.privacy |= replies.privacy


class PlainExchange(RoundExchange):
    """An exchange whose replies the coordinator reads one by one."""

    def receivers(self, members: Sequence[Member]) -> Sequence[Member]:
        """Return these members."""
        return members

    def run(
        self,
        grid: Grid,
        state: SomeState,
        tasks: Mapping[int, Assignment],
        sample: Sample,
    ) -> RoundOutcome:
        """Send the tasks, and check and average the reports as they arrive; see `RoundExchange.run`."""
        parties, config = self.parties, self.parties.config
        limits = parties.limits(self.course.stage(state.round)[0] == 2 or parties.routed)
        offline, combiner = parties.offline(sample.online), sample.combiner(parties.methods)
        replies = RoundReplies(limits, offline, combiner, self.roster.left, sample.draw.chances)
        records = ((m, tasks[m.node_id].record()) for m in sample.members)
        bounds = largest(report_bounds(task, limits) for task in tasks.values())
        for member, answer in parties.ask(grid, records, "train", state.round, bounds):
            self.roster.record_answer(member, answer)
            self.report_settled(replies.take(member.name, tasks[member.node_id], answer), replies.absent)
        self.report_settled(replies.settle(), replies.absent)
        self.left_out.update(replies.left_out)
        self.note_budgets(replies, state.round)
        replies.require(self.roster.needed, self.roster.requirement)
        require_groups(self.parties, replies.answered, replies.absent, replies.how)
        measured: Losses = replies.train if config.dro.risk == "train" else replies.validation
        return RoundOutcome(
            average=replies.average,
            measured=measured,
            losses=merge(measured.values()),
            validation=merge(replies.validation.values()),
            answered=tuple(replies.answered),
            absent=replies.absent,
            how=dict(replies.how),
            late=replies.late,
            bytes_up=replies.bytes_up,
            trained=parties.trained_by(replies.answered),
            validation_by_site=replies.validation,
            withheld=self.roster.withheld(replies.validation),
            update_sizes=replies.outliers.sizes,
            update_ratios=replies.outliers.largest_ratios,
            received=replies.train,
            local=replies.local,
            privacy=dict(replies.privacy),
            sampling_error=combiner.error(state.model.tensors) if isinstance(combiner, DrawnAverage) else None,
        )
