"""A hospital's part of a round whose noise is shared: one sum of clipped gradients with its share, under masks."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from remind.errors import UserError
from remind.federation.blocks import block_of, group_block
from remind.federation.messages import Task
from remind.federation.secure_messages import MaskedAnswer
from remind.federation.summed import LOSS_ROOM, most_steps, summed_payloads
from remind.metrics.statistics import GroupLoss
from remind.privacy.joint import share_of, shared_steps
from remind.privacy.noise import Integers, Randomness
from remind.secagg.codec import STATISTICS, TENSORS
from remind.seeds import derive, seeded
from remind.training.evaluate import most_loss
from remind.training.private.gradients import PrivateGradients
from remind.training.private.summed import clipped_sum, flat
from remind.training.work import LocalWork
from remind_client.engine.model_state import Buffer
from remind_client.engine.site_engine import SiteEngine
from remind_client.ledger.spender import Spender
from remind_client.rounds.releases import PrivateReleases
from remind_client.rounds.secure import SecureAnswers
from remind_client.rounds.training import begun


@dataclass(frozen=True)
class SummedTraining:
    """Computes the sum of a round; the coordinator takes the step.

    Attributes
    ----------
    makers
        Block → among how many hospitals its noise is shared, see `noise_makers`.
    """

    engine: SiteEngine
    releases: PrivateReleases
    spender: Spender | None
    makers: Mapping[str, int]
    secure: SecureAnswers

    def answer(self, task: Task, buffer: Buffer, key: str) -> tuple[MaskedAnswer, Buffer]:
        """Return the masked sums; parameters as in `RoundTraining.answer`.

        Raises
        ------
        ValueError
            As `begun`.
        UserError
            Training has diverged.
        """
        started, engine = time.perf_counter(), self.engine
        _, work, phase, train_encoders = begun(engine, task, buffer, key)
        noised = self.releases.private.schedule.releases_losses(task.round)
        losses = self._losses(task, work.measure(), key) if noised else {}
        if train_encoders:
            engine.state.mark_changed()
        with seeded(derive(engine.work.seed(task, key), "dropout", engine.patients.site, task.round), engine.device):
            steps = self._gradients(task, work, key)
        stage = engine.work.stage_number(task, phase)
        engine.state.save(None, stage, train_encoders, task.round + 1, task.candidates)
        payloads = summed_payloads(task, steps, losses)
        masked, answer = self.secure.sums(task, buffer, payloads, time.perf_counter() - started)
        spent = self.spender.spent() if self.spender is not None else None
        return masked.model_copy(update={"privacy": spent}), answer

    def _gradients(self, task: Task, work: LocalWork, key: str) -> dict[str, Integers]:
        """Return the sums with noise of all tensors that train in this round and are sent."""
        private, gradients = self.releases.private, work.gradients
        assert isinstance(gradients, PrivateGradients)
        assert task.secure is not None
        sums, training = clipped_sum(work, gradients, private.config.train.batch), gradients.training()
        randomness = {b: Randomness(private.secret, key, f"share of the noise of {b}") for b in self.makers}
        found = {}
        for name in sorted(e.name for e in task.index if e.block in self.makers and e.name in training):
            block = block_of(name)
            exact = flat(sums, name, training[name].numel())
            if not np.isfinite(exact).all():
                raise UserError(f"training has diverged: the gradient of {name} is not finite; lower the learning rate")
            most = most_steps(len(task.secure.observers[block]), TENSORS.bits)
            share = share_of(private.schedule.noise, self.makers[block])
            found[name] = shared_steps(exact, private.config.privacy.clip, share, most, randomness[block])
        return found

    def _losses(self, task: Task, exact: Mapping[int, GroupLoss], key: str) -> dict[int, tuple[int, int]]:
        """Return group → patients as said, and the sum of their losses with noise."""
        private = self.releases.private
        assert task.secure is not None
        bound = most_loss(private.config, self.releases.outcome)
        found = {}
        for k in sorted(private.counts):
            if (block := group_block(k)) not in self.makers:
                continue
            total = np.array([exact[k].loss_sum if k in exact else 0.0]) * LOSS_ROOM
            most = most_steps(len(task.secure.observers[block]), STATISTICS.bits - 2)  # far beyond any sum of losses
            share = share_of(private.schedule.losses.noise, self.makers[block])
            randomness = Randomness(private.secret, key, f"share of the noise of the losses of {k}")
            (steps,) = shared_steps(total, bound, share, most, randomness)
            found[k] = private.counts[k], int(steps)
        return found
