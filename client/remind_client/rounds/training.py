"""The training of one round at a site (design, "A round"): evaluate the received model, take steps, report."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from remind.data.cohort.cohort import VALIDATION
from remind.errors import UserError
from remind.federation.blocks import (
    ENCODERS,
    INT8,
    SentType,
    Unpacked,
    block_of,
    index_of,
    pack,
    split_beside,
    unpack,
)
from remind.federation.held import encoders_rest
from remind.federation.message_statistics import LossSum
from remind.federation.messages import Report, Task
from remind.federation.quantised import with_feedback
from remind.metrics.statistics import GroupLoss, GroupStatistics
from remind.objectives.base import Phase
from remind.seeds import derive, seeded
from remind.training.work import LocalWork
from remind_client.engine.model_state import Buffer
from remind_client.engine.site_engine import SiteEngine
from remind_client.ledger.spender import Spender
from remind_client.rounds.answers import evaluations, require_finite
from remind_client.rounds.releases import PrivateReleases
from remind_client.rounds.small_updates import blocks_below_minimum, prototypes_below_minimum, prototypes_of
from remind_client.rounds.table_rows import Rows, rows_to_withhold, with_rows_as_received

log = logging.getLogger(__name__)
Received = Mapping[str, Tensor]


@dataclass(frozen=True)
class RoundTraining:
    """Trains the model of a site for one round.

    Attributes
    ----------
    minimum
        Number of different patients that must have changed a part of the model before its update may leave.
    releases
        What leaves under a privacy guarantee; None: the run gives no guarantee.
    spender
        Reports what the site has spent; None: nothing is spent.
    """

    engine: SiteEngine
    minimum: int
    releases: PrivateReleases | None
    spender: Spender | None

    def answer(self, task: Task, buffer: Buffer, key: str) -> tuple[Report, Buffer]:
        """Evaluate the model as received, do the round's work, and return the report and the same blocks.

        Parameters
        ----------
        key
            What draws and noise depend on under a privacy guarantee.

        Raises
        ------
        ValueError
            The task names groups that the site does not observe, or contains tensors of another model.
        UserError
            Training has diverged.
        """
        started, engine = time.perf_counter(), self.engine
        methods, state = engine.methods, engine.state
        received, work, phase, train_encoders = begun(engine, task, buffer, key)
        if encoders_rest(engine.config, methods.rule, task.stage, phase.train):
            received = {name: tensor for name, tensor in received.items() if not name.startswith(ENCODERS)}
        work.withheld = self._withheld(task, work)
        most = self._measured(train_encoders)
        if most:
            work.measure = partial(engine.evaluation.sampled_losses, work.source, task, most)
        losses: Mapping[int, GroupLoss] = work.measure()
        with methods.rule.measured(work):
            validation = self._validation(task, work, most)
        released = {} if self.releases is None else self.releases.losses(task, losses, key)
        losses = self._work(task, phase, work, train_encoders, key) or losses
        local: Mapping[int, GroupLoss] = work.measure() if methods.rule.measures_local and phase.train else {}
        if phase.train:
            engine.work.gather(work, task, self.minimum, Unpacked(task.index, buffer))
        require_finite([*losses.values(), *local.values()])
        rows: Rows = self._rows(received, work) if train_encoders else {}
        sent = self._in_wire_type(task, buffer, self._sent(task, buffer, received, work, rows), work, rows)
        state.save(
            work.optimizer, engine.work.stage_number(task, phase), train_encoders, task.round + 1, task.candidates
        )
        if self.releases is None:
            released = losses
        report = Report(
            round=task.round,
            share=engine.patients.share(methods.objective, task),
            train={k: LossSum.of(s) for k, s in released.items() if k in task.weights},
            validation=evaluations(validation) if self.releases is None else {},
            local={k: LossSum.of(s) for k, s in local.items() if k in task.weights},
            seconds=time.perf_counter() - started,
            index=index_of(sent, self._type),
            privacy=self.spender.spent() if self.spender is not None else None,
        )
        return report, pack(sent, self._type)

    def _type(self, name: str) -> SentType:
        return self.engine.methods.reply_type(name, self.engine.config)

    def _in_wire_type(
        self, task: Task, buffer: Buffer, tensors: Mapping[str, Tensor], work: LocalWork, rows: Rows
    ) -> Mapping[str, Tensor]:
        """Return what is packed: tensors, or with ``federation.updates`` = int8 updates, whose rounding is kept here.

        To a part that goes back as it was received, nothing of earlier rounds is added; nor to prototypes and tables,
        of which some rows may go back while others do not.
        """
        names = [name for name in tensors if self._type(name) == INT8]
        if not names:
            return tensors
        before = unpack(task.index, buffer)
        updates = {name: tensors[name].detach() - before[name].to(tensors[name]) for name in names}
        if wrong := [name for name, update in updates.items() if not bool(torch.isfinite(update).all())]:
            raise UserError(
                f"training has diverged: {wrong[0]} is not finite; lower the learning rate (train.lr, --lr)"
            )
        partly = {*prototypes_of(self.engine.model.fusion), *rows}
        state, silent = self.engine.state, [n for n in names if n in partly or block_of(n) in work.withheld]
        sent, left = with_feedback(updates, state.kept, silent)
        state.kept |= left
        return {**tensors, **sent}

    def _measured(self, train_encoders: bool) -> int:
        """Return how many patients of each group are measured, at least the site's minimum; 0: all.

        With frozen encoders the tokens are there already, and measuring everybody costs little.
        """
        most = self.engine.config.train.measure_patients
        return max(most, self.minimum) if most and train_encoders else 0

    def _validation(self, task: Task, work: LocalWork, most: int) -> dict[int, GroupStatistics]:
        """Return statistics of the validation patients; of all where a choice or λ depends on them."""
        engine, config = self.engine, self.engine.config
        if most and config.train.select == "last" and config.dro.risk == "train":
            return engine.evaluation.sampled_validation(work.source, task, most)
        return engine.evaluation.statistics(work.source, VALIDATION, task.routing, task.labels)

    def _work(
        self, task: Task, phase: Phase, work: LocalWork, train_encoders: bool, key: str
    ) -> Mapping[int, GroupLoss] | None:
        """Do the rule's work, or only evaluate if the phase takes no steps.

        Return losses that replace those of the received model, if any.
        """
        engine = self.engine
        if not phase.train:
            engine.methods.objective.remember(engine.evaluation.mistakes(work), engine.state.kept)
            return None
        if train_encoders:
            engine.state.mark_changed()
        with seeded(derive(engine.work.seed(task, key), "dropout", engine.patients.site, task.round), engine.device):
            return engine.methods.rule.work(work)

    def _sent(
        self, task: Task, buffer: Buffer, received: Mapping[str, Tensor], work: LocalWork, rows: Rows
    ) -> Mapping[str, Tensor]:
        """Return the current tensors, except those of parts that too few patients changed: these as received."""
        if names := [name for name in prototypes_of(self.engine.model.fusion) if name in received]:
            received = {**received, **self._prototypes(task, buffer, {name: received[name] for name in names}, work)}
        if rows:
            received = with_rows_as_received(received, unpack(task.index, buffer), rows)
        if not work.withheld:
            return received
        log.info("round %d: fewer than %d patients moved %s; sent back", task.round, self.minimum, work.withheld)
        unchanged, _ = split_beside(unpack(task.index, buffer))
        own = {name: t for name, t in (unchanged | work.instead).items() if name in received}  # no encoders that rest
        instead = {name: t for name, t in own.items() if block_of(name) in work.withheld}
        return {**received, **instead}

    def _withheld(self, task: Task, work: LocalWork) -> frozenset[str]:
        """Return the blocks that too few patients will change."""
        if self.releases is not None:  # noise protects them, and suppression would disclose who was drawn
            return frozenset()
        cohort = self.engine.patients.cohort
        blocks = {entry.block for entry in task.index}
        return blocks_below_minimum(work.plan, cohort.groups_N, cohort.schema.names, blocks, self.minimum)

    def _rows(self, received: Received, work: LocalWork) -> Rows:
        """Return the rows of tables, such as an embedding of codes, that too few patients read."""
        if self.releases is not None or self.minimum == 1:
            return {}
        return rows_to_withhold(work, self.engine.state.data, received.keys(), self.minimum)

    def _prototypes(self, task: Task, buffer: Buffer, trained: Received, work: LocalWork) -> Received:
        """Return the prototypes, those of too few patients as received."""
        cohort = self.engine.patients.cohort
        few_mC = prototypes_below_minimum(
            work.plan, cohort.label_N, cohort.presence_Nm, len(cohort.schema.classes), self.minimum
        )
        before, few_mC1 = unpack(task.index, buffer), torch.from_numpy(few_mC).unsqueeze(2)
        return {n: torch.where(few_mC1.to(t.device), before[n].to(t), t) for n, t in trained.items()}


def begun(engine: SiteEngine, task: Task, buffer: Buffer, key: str) -> tuple[Received, LocalWork, Phase, bool]:
    """Take up a round: return the received tensors, the work, the phase, and whether encoders train.

    Raises
    ------
    ValueError
        The task names groups that the site does not observe, or contains tensors of another model.
    """
    if unseen := [k for k in task.weights if k not in engine.patients.counts]:
        raise ValueError(f"the task names groups that the site does not observe: {unseen}")
    phase = engine.methods.objective.phase(task.round)
    if engine.work.restarts_training(task, phase):
        engine.state.reset()
    train_encoders = phase.train and task.stage == 1 and engine.config.federation.encoders != "frozen"
    engine.store.activate()
    received = engine.state.receive(task.index, buffer, task.held)
    return received, engine.work.training(task, phase, received, train_encoders, key), phase, train_encoders
