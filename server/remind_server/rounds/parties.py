"""The parties of a run: the sites on its roster and its initial model; and how messages are sent to these sites."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from flwr.app import RecordDict
from flwr.serverapp import Grid

from remind.adaptation.start import Start, start_of
from remind.config import Config
from remind.data.cohort.schema import CohortSchema
from remind.federation.bounds import Bounds
from remind.federation.site_weights import Sites
from remind.methods import methods_of
from remind_server.rounds.checks import Limits, experts_of
from remind_server.rounds.enroller import Enroller
from remind_server.rounds.exchange import Answer, exchange
from remind_server.rounds.flwr_pull import replies_within
from remind_server.rounds.member import Member
from remind_server.rounds.roster import Roster
from remind_server.rounds.tasks import sites_of


class Parties:
    """The participants of a run.

    Attributes
    ----------
    roster
        The sites.
    enroller
        Admits new sites to the roster.
    initial
        The model of ``start.model``, after it was read; None if the run has no initial model.
    """

    def __init__(self, config: Config, enrolled: Iterable[str] = ()) -> None:
        self.config, self.methods = config, methods_of(config)
        self.roster = Roster(config, enrolled)
        self.enroller = Enroller(config, self.roster)
        self.initial: Start | None = None

    def read_initial(self) -> None:
        """Read the model of ``start.model``.

        Raises
        ------
        UserError
            The model does not exist, or cannot be read.
        """
        self.initial = start_of(self.config)

    @property
    def initial_digest(self) -> str:
        """Digest of the initial model; empty if there is none."""
        return "" if self.initial is None else self.initial.digest

    @property
    def schema(self) -> CohortSchema:
        """The schema of all sites, known after the first enrolment."""
        if self.roster.schema is None:
            raise RuntimeError("no site has enrolled yet")
        return self.roster.schema

    @property
    def sites(self) -> Sites:
        """Training patients per group of every member."""
        return sites_of(self.roster.members.values())

    @property
    def known(self) -> frozenset[int]:
        """Groups of the initial model."""
        return frozenset() if self.initial is None else self.initial.groups

    @property
    def initial_counts(self) -> Mapping[int, int]:
        """Training patients of the initial model, per group."""
        return {} if self.initial is None else self.initial.counts

    @property
    def routed(self) -> bool:
        """Whether Φ_k is in use in stage 1 too."""
        return self.initial is not None and self.initial.routed(self.config)

    def trained_by(self, answered: Iterable[str]) -> set[int]:
        """Return the groups that these members train on."""
        names = set(answered)
        return {k for member in self.roster.members.values() if member.name in names for k in member.counts}

    def offline(self, online: Sequence[Member]) -> dict[str, str]:
        """Return member → why no message can be sent to it."""
        names = {member.name for member in online}
        absent = [m.name for m in self.roster.members.values() if m.name not in names]
        return {name: self.roster.left.get(name, "not connected") for name in absent} | self.roster.missing()

    def limits(self, routing: bool) -> Limits:
        """Return the limits for replies, in a round with or without routing."""
        return Limits(self.config, self.schema.predicts, experts_of(self.config, self.schema.names, routing))

    def ask(
        self, grid: Grid, records: Iterable[tuple[Member, RecordDict]], kind: str, round_: int, bounds: Bounds
    ) -> Iterator[tuple[Member, Answer]]:
        """Send each member its message, and yield the answers as they arrive. No answer may exceed the bounds."""
        contents = ((member.node_id, record) for member, record in records)
        federation = self.config.federation
        with replies_within(bounds):
            for answer in exchange(
                grid, contents, kind, str(round_), federation.deadline, federation.quorum, self.roster.silent
            ):
                yield self.roster.members[answer.node_id], answer
