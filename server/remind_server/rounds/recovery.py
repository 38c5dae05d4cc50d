"""Checkpoints of a run, and its resumption from the last one (docs/resume.md)."""

import logging
import time
from collections import Counter
from collections.abc import Sequence

from remind.errors import UserError
from remind.methods import methods_of
from remind.site_states import SiteStates
from remind_server.outputs.records import Observer, RunStart
from remind_server.rounds.checkpoints import Checkpoint, Checkpoints
from remind_server.rounds.parties import Parties
from remind_server.rounds.state import SomeState

log = logging.getLogger("flwr")


class Recovery:
    """What a run must know to be resumed, besides its state.

    Attributes
    ----------
    began
        When the run began, by `time.monotonic`; the time before an interruption counts.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        parties: Parties,
        observers: Sequence[Observer],
        left_out: Counter[str],
    ) -> None:
        self.checkpoints, self.parties, self.observers = checkpoints, parties, observers
        self.began = time.monotonic()
        self._left_out = left_out
        self._start: RunStart | None = None
        self._nodes = 0
        self._states = SiteStates(checkpoints.results) if checkpoints else None

    def started(self, start: RunStart, nodes: int) -> None:
        """Note how the run started, with how many connected nodes."""
        self._start, self._nodes = start, nodes

    def save(self, state: SomeState, over: bool = False, settled: bool = True) -> None:
        """Write a checkpoint. If a run is resumed from it, the observers' output of later rounds is discarded.

        Parameters
        ----------
        over
            Whether no round follows.
        settled
            Whether no site still works on a round: the states of simulated sites are then those of this round.
        """
        if self.checkpoints is None or self._states is None:
            return
        assert self._start is not None
        memory = {type(observer).__name__: observer.remember() for observer in self.observers}
        seconds, left_out = time.monotonic() - self.began, dict(self._left_out)
        roster, initial = self.parties.roster.remembered(), self.parties.initial_digest
        states = self._states.digests(over) if settled else {}
        checkpoint = Checkpoint(
            state, self._start, roster, self._nodes, left_out, memory, seconds, initial, states, over
        )
        self.checkpoints.write(checkpoint, self.parties.methods.weighing)

    def last(self) -> Checkpoint:
        """Return the checkpoint from which to resume.

        Raises
        ------
        UserError
            There is no checkpoint, or it belongs to another run.
        """
        if self.checkpoints is None:
            raise UserError("run.resume: this run stores no checkpoints")
        found = self.checkpoints.newest(lambda config: methods_of(config).weighing, log.warning)
        self.parties.read_initial()
        found.require_same(self.parties.config, self.parties.initial_digest)
        return found

    def restore(self, found: Checkpoint) -> None:
        """Restore roster, counters and observers from a checkpoint."""
        self.started(found.start, found.nodes)
        self._left_out.clear()
        self._left_out.update(found.left_out)
        self.began -= found.seconds
        self.parties.roster.restore(found.roster)

    def resume_observers(self, found: Checkpoint) -> None:
        """Tell the observers that the run resumes from a checkpoint."""
        for observer in self.observers:
            observer.resumed(found.start, found.state.round, found.memory.get(type(observer).__name__, {}))
