"""The state from round to round: initial state, new groups, phases, the rule's step, the best model, the final state.

Nothing is sent here. The result depends only on the config, the parties and the replies.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from remind.adaptation.moving import anchored, rates
from remind.federation.aggregation import BlockAverage
from remind.federation.averaging import mean_of, with_mean
from remind.federation.held import HOLDS, encoders_rest
from remind.federation.rules.base import Replies
from remind.global_model import GlobalModel
from remind.metrics.selection import is_better, judge
from remind.metrics.statistics import GroupStatistics
from remind.training.schedule import learning_rate
from remind_server.rounds.parties import Parties
from remind_server.rounds.secure.joint import SummedGradients, stepped
from remind_server.rounds.state import Best, SomeState, State
from remind_server.rounds.tasks import COUNTED, stage_of


class Course:
    """Computes the states of a run.

    Parameters
    ----------
    tensors
        Tensors of an initial model, which replaces the one of ``start.model``; None: that model, or a new one.
    """

    def __init__(self, parties: Parties, tensors: Mapping[str, Tensor] | None = None) -> None:
        self.parties, self.tensors = parties, tensors
        self.config, self.methods = parties.config, parties.methods
        self.phases = self.methods.objective.phases(self.config.train.rounds)

    def stage(self, round_: int) -> tuple[Literal[1, 2], int, int]:
        """Return the stage of a round, the round within it, and its rounds: see `stage_of`."""
        return stage_of(self.config, round_, self.phases)

    def routing(self, round_: int) -> bool:
        """Return whether the model after this many rounds uses Φ_k, as the next round would evaluate it."""
        if self.parties.routed:
            return True
        if round_ >= self.config.train.rounds:
            return self.config.train.routing_rounds > 0
        return self.stage(round_)[0] == 2

    def fresh(self, round_: int) -> SomeState:
        """Return the initial state of a training that begins in this round."""
        model = self._first_model()
        memory = self.methods.rule.server_init(model.tensors)
        return State(round_, model, self.methods.weighing.initial(self.parties.sites), memory)

    def _first_model(self) -> GlobalModel:
        """Return the initial model, with blocks for the groups of all sites and of the model of ``start.model``."""
        groups, schema = self.parties.roster.counts(), self.parties.schema
        if self.tensors is not None:
            return GlobalModel.begun_with(self.tensors, self.config, schema, groups)
        if self.parties.initial is not None:
            return self.parties.initial.model(self.config, schema, groups)
        return GlobalModel.build(self.config, schema, groups)

    def with_newcomers(self, state: SomeState) -> SomeState:
        """Return the state with blocks and λ for groups and sites that it lacks."""
        model = state.model.with_groups(self.config, self.parties.schema, self.parties.roster.counts())
        return replace(state, model=model, weights=self.methods.weighing.admit(state.weights, self.parties.sites))

    def begin_phase(self, state: SomeState) -> SomeState:
        """Reset the state if the objective restarts in this round; reset the rule's memory when a stage begins."""
        phase = self.methods.objective.phase(state.round)
        begins = state.round == phase.start
        if begins and phase.restart:
            return self.fresh(state.round)
        if begins or self.stage(max(state.round - 1, 0))[0] != self.stage(state.round)[0]:
            rule, words = self.methods.rule, tuple(f"{word}/" for word in self.methods.rule.lasting)
            lasting = {n: t for n, t in state.memory.items() if words and n.startswith(words)}
            return replace(state, memory={**lasting, **rule.server_init(state.model.tensors)})
        return state

    def stepped(
        self, state: SomeState, replies: BlockAverage, weights: Any, answered: Collection[str] = ()
    ) -> SomeState:
        """Return the state after the rule's step on the parameters of this phase; unchanged if no site trained.

        `answered` are the sites whose answers count.
        """
        phase, model = self.methods.objective.phase(state.round), state.model.tensors
        average = replies.average(model)
        before = {name: tensor for name, tensor in state.memory.items() if not name.startswith(HOLDS)}
        if isinstance(replies, SummedGradients):
            lr, known = learning_rate(self.config.train, *self.stage(state.round)), self.parties.known
            rate = rates(self.config, known)
            average, before = stepped(self.config.train, model, replies.gradients, before, lr, rate)
        merged = {n for n in average if self.methods.merges(n)}
        trains = phase.only or (lambda name: True)
        training = {n: t for n, t in average.items() if phase.train and n not in merged and trains(n)}
        told = Replies(learning_rate(self.config.train, *self.stage(state.round)), replies.weights(), replies.by_site())
        moved, memory = self.methods.rule.server_round(model, training, before, told)
        after = {**model, **average, **moved}
        if self.methods.rule.counts_answers:
            memory = {**memory, **{COUNTED + site: torch.tensor(state.round) for site in answered}}
        if encoders_rest(self.config, self.methods.rule, self.stage(state.round)[0], phase.train):
            memory = {**memory, **{HOLDS + site: torch.tensor(state.round) for site in answered}}
        if self.parties.initial is not None:
            lr = learning_rate(self.config.train, *self.stage(state.round))
            after = anchored(self.config, self.parties.initial.tensors, after, training, lr)
        if decay := self.config.federation.averaging:
            memory = with_mean(memory, after, training, decay)
        return State(state.round + 1, GlobalModel(after), weights, memory)

    def ended(self, state: SomeState) -> SomeState:
        """Return the state after the last round: with ``federation.averaging``, its model is the mean."""
        return replace(state, model=GlobalModel(mean_of(state.memory, state.model.tensors)))

    def best(self, state: SomeState, validation: Mapping[int, GroupStatistics]) -> Best | None:
        """Return the best model so far, if the run chooses one: that of `state` with these statistics, or an earlier.

        A model from before a restart of the objective is never chosen, and neither is an untrained one. With
        ``federation.averaging`` the candidates are the rounds' own models, and at the end the mean instead of the last.
        """
        train = self.config.train
        if train.select == "last" or state.round < self.methods.objective.first_judged:
            return state.best
        verdict = judge(train.select, train.select_score, state.round, validation, self.parties.roster.counts())
        known = state.best.verdict if state.best else None
        if verdict is None or not is_better(verdict, known, train.select_score):
            return state.best
        return Best(verdict, state.model, self.methods.weighing.shown(state.weights, self.parties.sites))

    def is_over(self, state: SomeState) -> bool:
        """Return whether all rounds are done, or the last `train.patience` rounds brought no better model.

        Stage 1 never ends early, because stage 2 continues from it with a new optimiser.
        """
        rounds, patience = self.config.train.rounds, self.config.train.patience
        if state.round >= rounds:
            return True
        if not patience or state.best is None:
            return False
        stage = [self.stage(round_)[0] for round_ in range(rounds)]
        begins = next((r for r in reversed(range(1, len(stage))) if stage[r - 1] != stage[r]), 0)
        return state.round - 1 - max(state.best.verdict.round, begins, self.phases[-1].start) >= patience
