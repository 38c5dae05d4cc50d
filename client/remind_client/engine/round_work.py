"""Build the work of a site in one round: the plan of steps, the optimiser, and the settings that all steps share."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from remind.adaptation.moving import moving, rates
from remind.config import Config
from remind.data.batches.batch import Batch
from remind.data.cohort.cohort import TRAIN
from remind.federation.blocks import block_of
from remind.federation.install import gradient_scale
from remind.federation.messages import Task
from remind.methods import FUSION, Methods
from remind.objectives.base import Names, Phase
from remind.seeds import derive
from remind.training.gradients import Gradients, PlainGradients
from remind.training.local import build_optimizer
from remind.training.schedule import learning_rate
from remind.training.site_data import CachedTokens, TokenSource
from remind.training.work import LocalWork, RoundSettings, intersection
from remind_client.engine.evaluation import Evaluation
from remind_client.engine.model_state import ModelState
from remind_client.engine.patients import SitePatients
from remind_client.engine.step_plan import plan_steps
from remind_client.engine.support import Support
from remind_client.store.site_store import SiteStore


class WorkBuilder:
    """Builds the work of a round from the task and the received model."""

    def __init__(
        self,
        patients: SitePatients,
        state: ModelState,
        support: Support,
        evaluation: Evaluation,
        config: Config,
        methods: Methods,
        store: SiteStore,
    ) -> None:
        self._patients, self._state, self._support, self._evaluation = patients, state, support, evaluation
        self._config, self._methods, self._store = config, methods, store

    def training(
        self, task: Task, phase: Phase, received: Mapping[str, Tensor], train_encoders: bool, key: str = ""
    ) -> LocalWork:
        """Return the round's plan of steps with everything that the steps need.

        Parameters
        ----------
        received
            The received parameters by name.
        key
            What draws and noise depend on under a privacy guarantee.
        """
        state, config, site = self._state, self._config, self._patients.site
        trained = moving(config, task.given)
        self._freeze_others(trained)
        source, routing = state.tokens(fresh=train_encoders), task.routing
        self._support.update(routing)
        optimizer = self._optimizer(task, phase, train_encoders) if phase.train else None
        augmented = train_encoders and config.model.encoders.augment != "none"
        only = intersection(intersection(phase.only, trained), self._methods.rule.moving())
        plan = []
        if optimizer is not None and _has_parameters(optimizer):
            plan = plan_steps(self._patients, state, self._methods.objective, config, task, phase, key)
        return LocalWork(
            model=state.model,
            objective=self._methods.objective,
            source=source,
            gradients=self._gradients(task, key, only),
            settings=RoundSettings(
                lr=learning_rate(config.train, task.stage, task.stage_round, task.stage_rounds),
                routing=routing,
                seed=derive(self.seed(task, key), "objective", site, task.round),
                round_seed=derive(task.seed, "round", task.round),
                gradient_scale=self._gradient_scale(task),
                decay=self._decay(task),
                rest=state.initial,
                labels=task.labels,
                augment=derive(task.seed, "augment", site, task.round) if augmented else None,
                only=only,
                round=task.round,
                stage=self.stage_number(task, phase),
                counted=-1 if task.counted is None else task.counted,
            ),
            plan=plan,
            optimizer=optimizer,
            measure=partial(self._evaluation.losses, source, TRAIN, routing, task.labels),
            kept=state.kept,
            beside=state.beside,
            travelling=tuple(name for name in received if not self._methods.merges(name)),
            retokenise=None if train_encoders else state.current_tokens,
        )

    def evaluation(self, source: TokenSource, received: Mapping[str, Tensor], routing: bool) -> LocalWork:
        """Return work without steps, for a model that is only evaluated."""
        state = self._state
        self._support.update(routing)
        return LocalWork(
            state.model,
            self._methods.objective,
            source,
            RoundSettings(routing=routing),
            measure=partial(self._evaluation.losses, source, TRAIN, routing),
            kept=state.kept,
            travelling=tuple(name for name in received if not self._methods.merges(name)),
            retokenise=state.current_tokens if isinstance(source, CachedTokens) else None,
        )

    def gather(self, work: LocalWork, task: Task, least: int, received: Mapping[str, Tensor]) -> None:
        """Let the fusion model fill what is merged and not averaged, from the training patients of active groups.

        `received` are the tensors of the task, as they were before the steps.
        """
        fusion, cohort = self._state.model.fusion, self._patients.cohort
        if not fusion.merged:
            return
        rows = self._patients.index[TRAIN]
        rows = rows[np.isin(cohort.groups_N[rows], list(task.weights))]
        chunks = [rows[start : start + work.source.chunk] for start in range(0, len(rows), work.source.chunk)]
        self._state.model.eval()
        with torch.no_grad():
            before = {name: received[FUSION + name] for name in fusion.merged if FUSION + name in received}
            fusion.gather((self._as_seen(*found) for found in work.source.batches(chunks)), least, before)

    def _as_seen(self, batch: Batch, tokens_BMD: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        model = self._state.model
        return model.fusion.seen(model.by_modality(tokens_BMD), batch.presence_Bm), batch.presence_Bm, batch.label_B

    def stage_number(self, task: Task, phase: Phase) -> int:
        """Return the number of the stage, counted over all phases; an optimiser's state belongs to one stage."""
        return task.stage + self._stages_before(phase)

    def restarts_training(self, task: Task, phase: Phase) -> bool:
        """Return whether the site starts its training again in this round.

        This is the first round of a phase that restarts, or the first of its rounds that the site attends.
        """
        return phase.restart and (task.round == phase.start or self._store.stage() <= self._stages_before(phase))

    def _stages_before(self, phase: Phase) -> int:
        return 2 * self._methods.objective.phases(self._config.train.rounds).index(phase)

    def seed(self, task: Task, key: str) -> int:
        """Return the seed of what a round draws at this site besides its patients; secret under a guarantee."""
        private = self._patients.private
        return task.seed if private is None else private.seed(key, "dropout")

    def _gradients(self, task: Task, key: str, only: Names | None) -> Gradients:
        private = self._patients.private
        if private is None:
            return PlainGradients()
        fusion, sent = self._state.model.fusion, None if task.secure is None else task.secure.observers.keys()

        def idle(name: str) -> bool:
            if (only is not None and not only(name)) or (sent is not None and block_of(name) not in sent):
                return True
            return name.startswith("fusion.") and fusion.idle(name.removeprefix("fusion."), task.routing)

        return private.gradients(task, key, self._state.model, idle)

    def _freeze_others(self, trained: Names | None) -> None:
        """Compute no gradients of parameters that do not train, in a run that starts with a trained model."""
        if self._config.start.model:
            for name, parameter in self._state.model.fusion.named_parameters(prefix="fusion"):
                parameter.requires_grad_(trained is None or trained(name))

    def _gradient_scale(self, task: Task) -> dict[str, float]:
        """Return gradient factors by parameter.

        Parameters that stay at the site follow its own mean loss, so they have no factor.
        """
        names, model = {entry.name for entry in task.index}, self._state.model
        travels = self._methods.rule.sent(model)
        staying = [n for n, _ in model.named_parameters() if n not in names and travels(n)]
        share = self._patients.share(self._methods.objective, task)
        return gradient_scale(names, share, task.block_weights, staying)

    def _decay(self, task: Task) -> dict[str, float]:
        """Return how strongly parameters are pulled to where they rest: ``train.shrink`` c/n_k, ``train.anchor``."""
        train, model = self._config.train, self._state.model
        anchored = dict.fromkeys(self._state.initial, train.anchor)
        if not train.shrink:
            return anchored
        own = {f"fusion.groups.{k}.": n for k, n in task.counts.items()}
        names = [name for name, _ in model.named_parameters() if model.fusion.shrinks(name)]
        shrunk = {name: train.shrink / n for name in names for prefix, n in own.items() if name.startswith(prefix)}
        return anchored | shrunk

    def _optimizer(self, task: Task, phase: Phase, train_encoders: bool) -> Optimizer:
        """Restore the optimiser from the last round of the same stage of the same training, or create a new one."""
        model_rates = rates(self._config, task.given)
        optimizer = build_optimizer(self._config.train, self._state.model, train_encoders, model_rates)
        if (saved := self._store.optimizer(self.stage_number(task, phase))) is not None:
            optimizer.load_state_dict(saved)
        return optimizer


def _has_parameters(optimizer: Optimizer) -> bool:
    """Return whether anything trains: nothing does with frozen encoders and a frozen model that knows all groups."""
    return any(group["params"] for group in optimizer.param_groups)
