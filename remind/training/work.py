"""A site's work in one round, as federated rules see it: steps, measurements, and what the site keeps for itself."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from remind.metrics.statistics import GroupStatistics
from remind.objectives.base import Labels, Names, Objective
from remind.training.local import train_steps
from remind.training.sampling import Step
from remind.training.site_data import TokenSource
from remind.training.site_model import SiteModel


@dataclass
class LocalWork:
    """The model as received, the round's plan of steps, and the means to take them.

    Attributes
    ----------
    model
        Encoders and fusion; the parameters that came are in it.
    objective
        Whose loss the steps descend.
    kept
        Tensors that stay at this site from round to round, under names of the rule's or the objective's choice.
    travelling
        Names of the parameters that came and go back.
    source
        Where tokens come from.
    measure
        Statistics of the training patients on the model as it is.
    optimizer, plan
        Of the round; None and empty where a model is only measured.
    labels
        Patients of each group by class, where the objective needs them.
    round_seed
        The same at every site.
    lr, routing, seed, gradient_scale, augment, only
        As for `train_steps`.
    retokenise
        Cached tokens of the encoders as they are at the moment; None: `source` encodes anew whenever it is asked.
    """

    model: SiteModel
    objective: Objective
    kept: dict[str, Tensor]
    travelling: Sequence[str]
    source: TokenSource
    routing: bool
    measure: Callable[[], dict[int, GroupStatistics]]
    optimizer: Optimizer | None = None
    plan: Sequence[Step] = ()
    lr: float = 0.0
    seed: int = 0
    round_seed: int = 0
    gradient_scale: Mapping[str, float] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)
    augment: int | None = None
    only: Names | None = None
    retokenise: Callable[[], TokenSource] | None = None

    def named(self) -> dict[str, Parameter]:
        """Parameters of the model by name."""
        return dict(self.model.named_parameters())

    def received(self) -> dict[str, Tensor]:
        """A copy of the parameters that travel, as they are now."""
        named = self.named()
        return {name: named[name].detach().clone() for name in self.travelling}

    @contextmanager
    def in_place_of(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Within the block the model's parameters of these names have these values, and tokens are theirs."""
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
    ) -> None:
        """Take the steps of the plan from `first` up to `last`, or all.

        Parameters
        ----------
        only
            Names of the parameters that move, besides what the phase says; None: all.
        toward, strength
            Adds strength/2·‖θ − toward‖² to the loss, over the parameters that `toward` names.
        optimizer
            Another than the round's own.
        alone
            Descend the site's own mean loss F_s/W_s on every tensor, as a model that is averaged with nobody's does.
        """
        optimizer = optimizer or self.optimizer
        if optimizer is None:
            raise ValueError("this work is for measuring: it has no optimiser")
        train_steps(
            self.model,
            self.source,
            optimizer,
            self.plan[first:last],
            self.objective,
            lr=self.lr,
            routing=self.routing,
            gradient_scale={} if alone else self.gradient_scale,
            labels=self.labels,
            seed=self.seed + first,
            augment=self.augment,
            only=_both(self.only, only),
            toward=toward,
            strength=strength,
        )


def _both(one: Names | None, other: Names | None) -> Names | None:
    if one is None or other is None:
        return one or other
    return lambda name: one(name) and other(name)
