"""`FedRemind`: federated GroupDRO over modality combinations that span sites (algorithm §3; design, "A round").

It drives a Flower `Grid` itself rather than through `flwr.serverapp.strategy.Strategy`, whose loop knows one model for
all nodes and two exchanges a round; here every site gets its own blocks, and a round is one exchange.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext

from flwr.serverapp import Grid
from torch import Tensor

from remind.config import Config
from remind.disk import disk_error, in_words
from remind.errors import UserError
from remind.run_settings import require_cohort, require_hospitals, require_settings
from remind_server.outputs.records import Observer, RunResult, RunStart
from remind_server.rounds.checkpoints import Checkpoint, Checkpoints
from remind_server.rounds.course import Course
from remind_server.rounds.examiner import Examiner
from remind_server.rounds.masked_exchange import MaskedExchange
from remind_server.rounds.parties import Parties
from remind_server.rounds.recovery import Recovery
from remind_server.rounds.round_exchange import PlainExchange, RoundExchange
from remind_server.rounds.round_runner import RoundRunner
from remind_server.rounds.secure.aggregation import SecureAggregation
from remind_server.rounds.state import SomeState
from remind_server.rounds.waiting import wait_for_members

log = logging.getLogger(__name__)


class FedRemind:
    """The strategy. `run` takes any Flower Grid: a deployment's, the Ray simulation's, or the in-process one.

    Parameters
    ----------
    start
        Tensors of an initial global model, such as the last model of another run; groups that are not in it start
        with new blocks. None: start with the model that ``start.model`` names, or with a new one.
    enrolled
        Names of the hospitals that should take part.
    checkpoints
        Where the state after every round is stored; None: no checkpoints.
    """

    def __init__(
        self,
        config: Config,
        observers: Sequence[Observer] = (),
        start: Mapping[str, Tensor] | None = None,
        enrolled: Iterable[str] = (),
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.config, self.observers = config.begun, observers
        require_settings(self.config)
        self.checkpoints, self._resumes = checkpoints, config.run.resume
        self.parties = Parties(self.config, enrolled)
        self.methods, self.roster = self.parties.methods, self.parties.roster
        self.course = Course(self.parties, start)
        self.secure: SecureAggregation | None = None
        self.exchange: RoundExchange = PlainExchange(self.course, observers)
        if self.config.federation.secure_aggregation:
            self.secure = SecureAggregation(self.parties, checkpoints.folder if checkpoints else None)
            self.exchange = MaskedExchange(self.course, observers, self.secure)
        self.rounds = RoundRunner(self.course, self.exchange, self.secure, observers)
        self.recovery = Recovery(checkpoints, self.parties, observers, self.exchange.left_out)

    def run(self, grid: Grid) -> RunResult:
        """Enrol the sites, or resume from the last checkpoint; train all rounds; examine the final model.

        Raises
        ------
        UserError
            Too few sites take part or answer, or `start` does not fit the model.
        """
        with self.checkpoints.held() if self.checkpoints else nullcontext():
            return self._run(grid)

    def _run(self, grid: Grid) -> RunResult:
        self.recovery.began = time.monotonic()
        checkpoint = self.recovery.last() if self._resumes else None
        try:
            state = self._start(grid) if checkpoint is None else self._resume(grid, checkpoint)
            while not self.course.is_over(state):
                state = self._round(grid, state)
                self.recovery.save(state, self.course.is_over(state), not self.rounds.late)
            last = self.course.ended(state)
            examiner = Examiner(self.course, self.secure)
            result = examiner.result(grid, last, self.recovery.began, self.exchange.left_out)
        except BaseException as error:  # observers are told of an interruption too
            for observer in self.observers:
                try:
                    observer.failed(_reason(error))
                except Exception:  # the reason of the end must not be lost, nor the other observers' knowledge of it
                    log.exception("%s could not note the end of the run", type(observer).__name__)
            raise
        for observer in self.observers:
            observer.finished(result)
        return result

    def _round(self, grid: Grid, state: SomeState) -> SomeState:
        """Return the state after one round."""
        return self.rounds.run(grid, state)

    def _start(self, grid: Grid) -> SomeState:
        """Enrol the sites and return the initial state."""
        for observer in self.observers:
            observer.begun(self.config)
        self.parties.read_initial()
        wait_for_members(grid, self.roster, self.config.federation.deadline)
        self.parties.enroller.enrol_newcomers(grid)
        self.roster.require_members()
        if self.secure is not None:
            self.secure.begin(grid)
        self._require_settings_that_fit()
        members = sorted(self.roster.members.values(), key=lambda m: m.name)
        start = RunStart(
            self.config,
            self.parties.schema,
            {m.name: m.counts for m in members},
            self.roster.counts(),
            dict(self.roster.refused),
            self.roster.expected,
            {m.name: m.named for m in self.roster.members.values() if m.named is not None},
        )
        self.recovery.started(start, self.parties.enroller.connected)
        for observer in self.observers:
            observer.started(start)
        state = self.course.fresh(0)
        self.recovery.save(state)
        return state

    def _resume(self, grid: Grid, found: Checkpoint) -> SomeState:
        """Resume a run from a checkpoint. The sites enrol again, because their nodes may have changed."""
        self.recovery.restore(found)
        if self.secure is not None:
            self.secure.go_on()
        self.recovery.resume_observers(found)
        known = {member.name for member in self.roster.members.values()}
        wait_for_members(grid, self.roster, self.config.federation.deadline)
        joined = {member.name for member in self.rounds.enrol_newcomers(grid)}
        return self.course.with_newcomers(found.state) if joined - known else found.state

    def _require_settings_that_fit(self) -> None:
        """Refuse settings that do not fit the sites and the schema, which are known only now.

        Raises
        ------
        UserError
            With the setting and the remedy.
        """
        require_cohort(self.config, self.parties.schema, self.roster.counts())
        if self.methods.rule.pooled:  # for others, hospitals may join or leave during the run
            require_hospitals(self.config, len(self.roster.members), "")


def _reason(error: BaseException) -> str:
    """Why a run ended early, as text."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if (full := disk_error(error)) is not None:
        return in_words(full)
    return f"{type(error).__name__}: {error}"
