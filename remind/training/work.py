"""A site's work in one round, as federated rules see it: steps, measurements, and the tensors that stay at the site."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from remind.data.batches.batch import Batch
from remind.metrics.statistics import GroupLoss
from remind.objectives.base import Labels, Names, Objective, StepInput
from remind.seeds import derive
from remind.training.gradients import Gradients, PlainGradients
from remind.training.sampling import Step
from remind.training.site_data import TokenSource
from remind.training.site_model import SiteModel

Measure = Callable[[], Mapping[int, GroupLoss]]


@dataclass(frozen=True)
class RoundSettings:
    """Settings that all steps of a round share.

    Attributes
    ----------
    lr
        Learning rate.
    routing
        True in stage 2; in stage 1 Φ_k stays at 0 because nothing reaches it.
    seed
        Seed of the objective's random numbers.
    round_seed
        The same at every site.
    gradient_scale
        Factor for the gradient of parameters by name, W_s/a_s of their block; 1 where a name is absent. It makes the
        averages of group and encoder blocks add up to the pooled step, as W_s does for shared ones.
    decay
        c by name, of parameters that are pulled towards `rest`, or 0: each step θ ← θ − learning rate · c·(θ − rest),
        on top of its gradient. ``train.shrink``: c/n_k of groups' own parameters; ``train.anchor``: of encoders.
    rest
        Where such parameters rest, by name; 0 where a name is absent.
    labels
        Patients of each group by class, where the objective needs them.
    augment
        Seed of the augmentation of pictures; None: none.
    only
        Names of the parameters that train; None: all that the optimiser holds.
    round, stage
        Number of the round, and of the stage, counted over all phases of the objective.
    counted
        The last round of the stage in which this site's answer counted; -1: none, or the rule does not ask.
    """

    lr: float = 0.0
    routing: bool = False
    seed: int = 0
    round_seed: int = 0
    gradient_scale: Mapping[str, float] = field(default_factory=dict)
    decay: Mapping[str, float] = field(default_factory=dict)
    rest: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)
    augment: int | None = None
    only: Names | None = None
    round: int = 0
    stage: int = 0
    counted: int = -1


@dataclass
class LocalWork:
    """The received model, the round's plan of steps, and everything to take them; a round has no other steps.

    Attributes
    ----------
    model
        Encoders and fusion, with the received parameters.
    objective
        Whose loss the steps descend.
    source
        Where tokens come from.
    settings
        What all steps of the round have in common.
    plan, optimizer
        Patients and weights of each step, see `sampling.steps`: the weighted sum of losses stands for F_s / W_s. Empty
        and None where a model is only measured.
    gradients
        Computes the gradient of a step.
    measure
        Losses of the training patients per group on the model as it is.
    kept
        Tensors that stay at this site from round to round, under names of the rule's or the objective's choice.
    beside
        What the rule sent besides the parameters, by name (`remind.federation.blocks.beside`).
    travelling
        Names of the parameters that are received and sent back.
    withheld
        Blocks that go back as they were received, because too few patients move them.
    instead
        What a rule sends of such a block, by the name of a parameter: nothing that this round's patients moved.
    retokenise
        Cached tokens of the encoders as they are at the moment; None: `source` encodes again for every batch.
    """

    model: SiteModel
    objective: Objective
    source: TokenSource
    settings: RoundSettings = RoundSettings()
    plan: Sequence[Step] = ()
    optimizer: Optimizer | None = None
    gradients: Gradients = field(default_factory=PlainGradients)
    measure: Measure = dict
    kept: dict[str, Tensor] = field(default_factory=dict)
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    travelling: Sequence[str] = ()
    withheld: frozenset[str] = frozenset()
    instead: dict[str, Tensor] = field(default_factory=dict)
    retokenise: Callable[[], TokenSource] | None = None

    def named(self) -> dict[str, Parameter]:
        """Return the parameters of the model by name."""
        return dict(self.model.named_parameters())

    def received(self) -> dict[str, Tensor]:
        """Return a copy of the current values of the parameters that are sent."""
        named = self.named()
        return {name: named[name].detach().clone() for name in self.travelling}

    @contextmanager
    def replaced(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Give the model's parameters of these names these values within the block, and use tokens that fit them."""
        named, source = self.named(), self.source
        before = {name: named[name].detach().clone() for name in tensors}
        self._load(tensors)
        if self.retokenise is not None and any(name.startswith("encoders.") for name in tensors):
            self.source = self.retokenise()
        try:
            yield
        finally:
            self._load(before)
            self.source = source

    @torch.no_grad()
    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        named = self.named()
        for name, tensor in tensors.items():
            named[name].copy_(tensor)

    def steps(
        self,
        first: int = 0,
        last: int | None = None,
        *,
        only: Names | None = None,
        toward: Mapping[str, Tensor] | None = None,
        strength: float = 0.0,
        optimizer: Optimizer | None = None,
        alone: bool = False,
        shift: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Take the steps of the plan from `first` up to `last`, or all.

        Parameters
        ----------
        only
            Names of the parameters that train, within those of the phase; None: all.
        toward, strength
            Adds strength/2·‖θ − toward‖² to the loss, over the parameters that `toward` names.
        optimizer
            An optimiser to use instead of the round's own.
        alone
            Descend the site's own mean loss F_s/W_s on every tensor, for a model that is not averaged with others.
        shift
            Added to the gradients of the parameters that it names, also to a gradient of 0 that no patient reached.
        """
        optimizer = optimizer or self.optimizer
        if optimizer is None:
            raise ValueError("this work is for measuring: it has no optimiser")
        self.model.train()
        for group in optimizer.param_groups:
            group["lr"] = self.settings.lr * group.get("factor", 1.0)
        named, plan, seed = self.named(), self.plan[first:last], self.settings.seed + first
        moves = intersection(self.settings.only, only)
        rate = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
        scale = {} if alone else self.settings.gradient_scale
        some = [step.index_B for step in plan if len(step.index_B)]
        batches = iter(self.source.batches(some, self.settings.augment))
        for number, step in enumerate(plan):
            optimizer.zero_grad(set_to_none=True)
            with self.gradients.recording():
                if len(step.index_B):
                    batch, tokens_BMD = next(batches)
                    given = self.step_input(step, batch, tokens_BMD, derive(seed, "step", number))
                    self.model.fusion.set_step_patients(batch.index_B)
                    self.gradients.compute(self.objective, given)
                else:
                    self.gradients.compute_empty()
            for name, parameter in named.items():
                if parameter.grad is None:
                    continue
                if moves is not None and not moves(name):
                    parameter.grad = None
                    continue
                if name in scale:
                    parameter.grad.mul_(scale[name])
                if toward is not None and name in toward:
                    parameter.grad.add_(parameter.detach() - toward[name], alpha=strength)
                if name in self.settings.decay and parameter in rate:
                    pull = min(rate[parameter] * self.settings.decay[name], 1.0)
                    parameter.data.lerp_(self.settings.rest.get(name, torch.zeros_like(parameter)), pull)
            _add_to_gradients(
                {named[name]: extra for name, extra in (shift or {}).items() if moves is None or moves(name)}
            )
            optimizer.step()
        self.model.fusion.set_step_patients(None)

    def step_input(self, step: Step, batch: Batch, tokens_BMD: Tensor, seed: int) -> StepInput:
        """Return the objective's input for a step of the plan; `seed` seeds the objective's random numbers."""
        return StepInput(
            batch,
            tokens_BMD,
            torch.as_tensor(step.weight_B, dtype=tokens_BMD.dtype, device=tokens_BMD.device),
            partial(self.model.fuse, routing=self.settings.routing),
            tuple(self.model.counts.values()),
            torch.Generator().manual_seed(seed),
            self.settings.labels,
            self.model.outcome,
        )


def _add_to_gradients(extra: Mapping[Parameter, Tensor]) -> None:
    for parameter, tensor in extra.items():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad.add_(tensor.to(parameter))


def intersection(one: Names | None, other: Names | None) -> Names | None:
    """Return the names that are in both; None: all."""
    if one is None or other is None:
        return one or other
    return lambda name: one(name) and other(name)
