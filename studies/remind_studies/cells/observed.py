"""What a coordinator is sent of the patients of one group, without protection and with: views for the attack.

The coordinator chooses the run, so it chooses what suits the attack: routing from the first round, frozen encoders that
it knows, no dropout (`studies.leakage`). Every view takes its gradients from the code that hospitals run.

Shapes: N candidates, n members, P numbers of the group's own parameters (Φ_k and B_k).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Parameter
from typing_extensions import override

from remind import groups
from remind.config import Config
from remind.data.batches.batch import SiteData
from remind.data.cohort.cohort import Cohort
from remind.federation.blocks import group_block
from remind.methods import methods_of
from remind.objectives.base import StepInput
from remind.privacy.attack import Attack, Floats, cosine, inner_product, least_squares
from remind.privacy.noise import Randomness, add_noise
from remind.secagg.codec import TENSORS
from remind.seeds import derive
from remind.training.gradients import PlainGradients
from remind.training.local import build_optimizer
from remind.training.private.draws import poisson_steps
from remind.training.private.gradients import Clipping, PrivateGradients
from remind.training.sampling import Step, steps
from remind.training.site_data import FreshTokens
from remind.training.site_model import SiteModel
from remind.training.work import LocalWork, RoundSettings
from remind_client.engine.private_steps import PrivateSteps, simulated_secret
from remind_client.rounds.small_updates import blocks_below_minimum

Integers = NDArray[np.int64]
EXACT = 1e30  # a clipping norm that clips nobody


@dataclass(frozen=True)
class Target:
    """A model as the coordinator knows it, and the group about which it asks.

    Attributes
    ----------
    cohort
        Patients of all hospitals.
    group
        k.
    """

    config: Config
    cohort: Cohort
    group: int

    @cached_property
    def work(self) -> LocalWork:
        """The model with the code that takes its local steps; encoders are frozen."""
        names = list(self.cohort.modalities)
        model = SiteModel(self.cohort.schema, self.config, names)
        for name in names:
            model.encoders[name].fit(self.cohort.modalities[name])  # type: ignore[operator]
        model.fusion.keep_groups(sorted(groups.counts(self.cohort.groups_N)), self.config.seed)
        optimizer = build_optimizer(self.config.train, model, train_encoders=False)
        model.train()
        how = RoundSettings(lr=self.config.train.routing_lr, routing=True, seed=self.config.seed)
        source = FreshTokens(model, SiteData(self.cohort))
        return LocalWork(model, methods_of(self.config).objective, source, how, (), optimizer)

    @property
    def names(self) -> tuple[str, ...]:
        """The group's own parameters."""
        prefix = f"fusion.groups.{self.group}."
        return tuple(n for n, p in self.work.model.named_parameters() if n.startswith(prefix) and p.requires_grad)

    def parameters(self) -> tuple[Parameter, ...]:
        """Return the same, in this order."""
        named = dict(self.work.model.named_parameters())
        return tuple(named[name] for name in self.names)

    def input(self, step: Step) -> StepInput:
        """Return what a step of these patients computes with."""
        batch, tokens_BMD = next(iter(self.work.source.batches([step.index_B])))
        return self.work.step_input(step, batch, tokens_BMD, derive(self.config.seed, "attack"))

    def gradients(self, index_N: Integers, clip: float = EXACT) -> Floats:
        """Return each of these patients' gradient of the group's parameters, (N, P), clipped as the hospital clips."""
        private, found = PrivateGradients(self.work.model, Clipping(clip, 0.0, 1.0), bytes(32), "candidates"), []
        for part in np.array_split(index_N, max(1, len(index_N) // 128)):
            with private.recording(noisy=False):
                each = private.each(self.work.objective, self.input(Step(part, np.ones(len(part)))), self.names)
            found.append((each.gradient_BP * (clip / each.norm_B).clamp(max=1.0)[:, None]).double().cpu().numpy())
        return np.concatenate(found)

    def plain(self, index_B: Integers, weight: float) -> Floats:
        """Return the exact gradient of a step of these patients, (P,)."""
        self.work.model.zero_grad(set_to_none=True)
        PlainGradients().compute(self.work.objective, self.input(Step(index_B, np.full(len(index_B), weight))))
        return self._read(True)

    def update(self, plan: list[Step]) -> Floats:
        """Return what a round of these steps subtracts from the group's parameters, (P,); the model stays as it is."""
        before = {name: tensor.detach().clone() for name, tensor in self.work.model.named_parameters()}
        start = self._read(False)
        self.work.plan, self.work.optimizer = plan, build_optimizer(self.config.train, self.work.model, False)
        self.work.steps()
        moved = start - self._read(False)
        with torch.no_grad():
            for name, parameter in self.work.model.named_parameters():
                parameter.copy_(before[name])
        return moved

    def noisy(self, plan: list[Step], how: Clipping, question: str) -> Floats:
        """Return the sum of the private gradients of these steps, all of the model as it is, times q·n, (P,).

        No dropout draws, so a patient's gradient is the same in every step. It is computed once, and each step sums the
        clipped gradients of those drawn and adds the noise of its own.
        """
        drawn_S = [step.index_B[self.cohort.groups_N[step.index_B] == self.group] for step in plan]
        index_N = np.unique(np.concatenate(drawn_S))
        gradient_NP = self.gradients(index_N, how.clip) if len(index_N) else np.zeros((0, len(self._read(False))))
        secret, total_P = simulated_secret(self.config.seed, "attack"), np.zeros(gradient_NP.shape[1])
        for number, drawn in enumerate(drawn_S):
            exact_P = gradient_NP[np.searchsorted(index_N, drawn)].sum(axis=0)
            total_P += add_noise(exact_P, how.clip, how.noise, Randomness(secret, question, f"noise of step {number}"))
        return total_P

    def _read(self, gradient: bool) -> Floats:
        found = []
        for parameter in self.parameters():
            tensor = parameter.grad if gradient else parameter.detach()
            tensor = torch.zeros_like(parameter) if tensor is None else tensor
            found.append(tensor.double().cpu().numpy().reshape(-1))
        return np.concatenate(found)


@dataclass(frozen=True)
class Hospital:
    """Patients of the group (members), and those of other groups that train beside them."""

    members: Integers
    others: Integers

    def patients(self) -> Integers:
        """Return all of them, in the order of the cohort."""
        return np.sort(np.concatenate([self.members, self.others]))


class View(ABC):
    """What a coordinator is sent, and how it attacks that.

    Attributes
    ----------
    attack
        Gives scores to the candidates.
    hospitals
        How many hospitals' patients are in what it is sent.
    """

    attack: Attack = staticmethod(least_squares)
    hospitals = 1

    def __init__(self, target: Target) -> None:
        self.target = target

    def candidates(self, index_N: Integers) -> Floats:
        """Return what the coordinator compares it with, (N, P)."""
        return self.target.gradients(index_N)

    @abstractmethod
    def sees(self, hospitals: list[Hospital], draw: int) -> Floats | None:
        """Return what is sent of the group's parameters, (P,); None: nothing.

        `draw` numbers the question, so that each has draws and noise of its own.
        """


class OneGradient(View):
    """One exact gradient of one hospital: local-steps = 1, sgd, batch = 0."""

    @override
    def sees(self, hospitals: list[Hospital], draw: int) -> Floats:
        (one,) = hospitals
        return self.target.plain(one.members, 1 / len(one.members))


class MinimumCount(OneGradient):
    """The same, where the policy holds back what fewer patients than its minimum moved (`minimum_patients`)."""

    minimum = 10

    @override
    def sees(self, hospitals: list[Hospital], draw: int) -> Floats | None:  # type: ignore[override]
        (one,) = hospitals
        block, cohort = group_block(self.target.group), self.target.cohort
        plan = [Step(one.members, np.full(len(one.members), 1 / len(one.members)))]
        if block in blocks_below_minimum(plan, cohort.groups_N, cohort.schema.names, {block}, self.minimum):
            return None
        return super().sees(hospitals, draw)


class MaskedSum(View):
    """The sum over three hospitals that secure aggregation opens, on its grid of integers."""

    hospitals = 3

    @override
    def sees(self, hospitals: list[Hospital], draw: int) -> Floats:
        members = sum(len(one.members) for one in hospitals)
        total_P = np.zeros(sum(p.numel() for p in self.target.parameters()), dtype=np.uint32)
        for one in hospitals:
            total_P += TENSORS.encode(self.target.plain(one.members, 1 / members), len(hospitals)).astype(np.uint32)
        return TENSORS.decode(total_P)


class LocalRound(View):
    """What the local steps of a round made of the group's parameters, with the run's optimiser and batches."""

    attack = staticmethod(cosine)

    @override
    def sees(self, hospitals: list[Hospital], draw: int) -> Floats:
        (one,) = hospitals
        index_N = one.patients()
        group_N, config = self.target.cohort.groups_N[index_N], self.target.config
        counts = groups.counts(group_N)
        weights = {k: n / len(index_N) for k, n in counts.items()}
        rng = np.random.default_rng(derive(config.seed, "attack", draw))
        return self.target.update(list(steps(config.train, index_N, group_N, weights, counts, rng)))


class NoisySteps(View):
    """All private steps of a run with ``privacy.mode = "site"``, each asked about the model as it is at first."""

    attack = staticmethod(inner_product)

    @override
    def candidates(self, index_N: Integers) -> Floats:
        return self.target.gradients(index_N, self.target.config.privacy.clip)

    @override
    def sees(self, hospitals: list[Hospital], draw: int) -> Floats:
        (one,) = hospitals
        index_N, config = one.patients(), self.target.config
        group_N = self.target.cohort.groups_N[index_N]
        secret = simulated_secret(config.seed, "attack")
        private = PrivateSteps(config, secret, groups.counts(group_N))
        number, question = config.train.rounds * config.train.local_steps, f"attack {draw}"
        equal = dict.fromkeys(private.counts, 1.0)
        plan = poisson_steps(index_N, group_N, equal, private.schedule.rate, number, secret, question)
        how = Clipping(config.privacy.clip, private.schedule.noise, private.schedule.rate * len(index_N))
        return self.target.noisy(plan, how, question)


VIEWS: dict[str, type[View]] = {
    "gradient": OneGradient,
    "minimum": MinimumCount,
    "sum": MaskedSum,
    "round": LocalRound,
    "noise": NoisySteps,
}
