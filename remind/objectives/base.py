"""The base class of objectives: the weights of groups, the loss of a patient, and the phases of training.

A method is one file of this folder: an `Objective` and `@registry.register`. An objective decides the weights of the
*groups* that it receives. The federated rule decides whether groups span sites or each site has its own.
Shapes: B patients in a step, M tokens, D width, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import override

from remind.config import Config
from remind.config.train import Sampling
from remind.data.batches.batch import Batch
from remind.data.cohort.cohort import TRAIN, VALIDATION
from remind.fusion.base import group_of
from remind.fusion.more_vs_fewer import draw_fewer, more_vs_fewer
from remind.objectives.focal import focal_loss
from remind.objectives.weighting import Proportional, Unit, Weighting, WeightState
from remind.outcomes.base import Outcome
from remind.outcomes.classes import Classes
from remind.registry import Options, Registry

OWN = "objective/"  # prefix for the names of what an objective stores at a site
Names = Callable[[str], bool]
Labels = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True)
class Phase:
    """A sequence of rounds with one purpose.

    Attributes
    ----------
    start, rounds
        First round, from 0, and number of rounds.
    restart
        Whether model and weights are initialised again.
    part
        Patients that are trained on: training or validation ones.
    train
        False: sites evaluate the model and take no steps.
    only
        Names of the parameters that are trained; None: all that the stage trains.
    balanced
        Whether the groups of its part have equal weights, for any λ.
    """

    start: int
    rounds: int
    restart: bool = False
    part: int = TRAIN
    train: bool = True
    only: Names | None = None
    balanced: bool = False


class Output(Protocol):
    """The part of a model's output that the engine uses (`remind.fusion.base.FusionOutput`)."""

    @property
    def logits_BC(self) -> Tensor:
        """Class logits."""

    def total_loss(self, label_B: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return the training loss of each patient, (B,)."""


@dataclass(frozen=True)
class StepInput:
    """The patients of one step: the input of the step's loss.

    Attributes
    ----------
    batch
        Patients, their modalities, groups and labels.
    tokens_BMD, weight_B
        Their tokens, and the weight of each in the step's loss.
    fuse
        Tokens, presence and group → the model's output; any number of times.
    token_counts
        Tokens of each modality, in order.
    generator
        Random generator of this step, on the CPU.
    labels
        Training patients of each group by class, over all that the weights span; empty unless `needs_labels`.
    outcome
        What is predicted; None: classes.
    """

    batch: Batch
    tokens_BMD: Tensor
    weight_B: Tensor
    fuse: Callable[[Tensor, Tensor, Tensor], Output]
    token_counts: tuple[int, ...]
    generator: torch.Generator
    labels: Labels
    outcome: Outcome | None = None


class Objective(Weighting):
    """Base of every objective: equal weights of patients, focal loss, one phase.

    Attributes
    ----------
    weighs
        Whether it weighs groups by more than their size; then no federated rule may do so too.
    needs_labels
        Whether it must know how many patients of each class a group has.
    needs_held_out
        Whether a phase trains on validation patients, so that it must know how many of them a group has.
    couples_patients
        Whether a patient's loss depends on other patients of the step, or the step's loss is not a weighted sum of its
        patients' losses. No bound on one patient's gradient then bounds what the patient does to the step's, so that
        steps with differential privacy must refuse it.
    private
        Whether steps with differential privacy admit it: a patient's loss is the patient's alone, and nothing else that
        it asks of a site (labels, mistakes, held-out patients) would leave without noise.
    mixes_tokens
        Whether it creates patients from the tokens of two.
    sampling
        How its steps must draw patients; None: as configured.
    """

    weighs = False
    needs_labels = False
    needs_held_out = False
    couples_patients = False
    mixes_tokens = False
    private = False
    outcomes = ""  # why only classes without an order can be predicted; empty: any outcome
    sampling: Sampling | None = None

    def __init__(self, options: Options, config: Config) -> None:
        self.options, self.config = options, config

    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Return the weights n_k/n."""
        return Proportional().initial(counts)

    @override
    def admit(self, state: WeightState[Unit], counts: Mapping[Unit, int]) -> WeightState[Unit]:
        return super().admit(state, counts) if self.weighs else self.initial(counts)

    def phases(self, rounds: int) -> tuple[Phase, ...]:
        """Return the phases of a run with so many rounds, in order and without gaps."""
        return (Phase(0, rounds),)

    @property
    def holds_out(self) -> bool:
        """Whether no phase trains on validation patients, so that these can judge the model."""
        return all(phase.part != VALIDATION for phase in self.phases(self.config.train.rounds))

    @property
    def first_judged(self) -> int:
        """Rounds after which the first model exists that may become the run's: one or more, in the last training."""
        phases = self.phases(self.config.train.rounds)
        return max((phase.start for phase in phases if phase.restart), default=0) + 1

    def phase(self, round_: int) -> Phase:
        """Return the phase of a round, counted from 0."""
        rounds = self.config.train.rounds
        return next(p for p in reversed(self.phases(rounds)) if p.start <= min(round_, rounds - 1))

    def criterion(self, logits_BC: Tensor, label_B: Tensor, group_B: Tensor, labels: Labels) -> Tensor:
        """Return the unweighted loss of each patient's prediction, (B,): it is minimised, and R_k is its mean."""
        return focal_loss(logits_BC, label_B, self.config.train.focal_gamma)

    def loss_of(
        self, outcome: Outcome | None, raw_BW: Tensor, target: Tensor, group_B: Tensor, labels: Labels
    ) -> Tensor:
        """Return the loss of each patient's prediction, (B,): of classes the `criterion`, else the outcome's own."""
        if outcome is None or isinstance(outcome, Classes):
            return self.criterion(raw_BW, target, group_B, labels)
        return outcome.loss(raw_BW, target)

    def patient_losses(self, step: StepInput) -> Tensor:
        """Return the unweighted loss of each patient of a step, (B,): the core of an objective.

        Unless `couples_patients`, a patient's loss depends on no other patient of the step.
        """
        return self.losses_on(step, step.tokens_BMD)

    def coupled_loss(self, step: StepInput) -> Tensor | None:
        """Return the part of a step's loss that is not a sum over patients, a scalar; only if `couples_patients`."""
        return None

    def step_loss(self, step: StepInput) -> Tensor:
        """Return the loss of a step, a scalar: the weighted sum of its patients' losses plus `coupled_loss`."""
        loss = (step.weight_B * self.patient_losses(step)).sum()
        coupled = self.coupled_loss(step)
        return loss if coupled is None else loss + coupled

    def losses_on(self, step: StepInput, tokens_BMD: Tensor) -> Tensor:
        """Return the loss of each patient of the step, (B,), computed from these tokens instead of their own.

        With ``train.ranking`` every patient also enters with fewer modalities (More-vs-Fewer, SimMLM).
        """
        batch = step.batch
        output = step.fuse(tokens_BMD, batch.presence_Bm, batch.group_B)

        def criterion(logits_BC: Tensor, label_B: Tensor) -> Tensor:
            return self.loss_of(step.outcome, logits_BC, label_B, batch.group_B, step.labels)

        loss_B = output.total_loss(batch.target, criterion)
        if self.config.train.ranking > 0:
            fewer_Bm = draw_fewer(batch.presence_Bm, step.generator)
            fewer_B = criterion(step.fuse(tokens_BMD, fewer_Bm, group_of(fewer_Bm)).logits_BC, batch.target)
            paired_B = (fewer_Bm != batch.presence_Bm).any(dim=1)
            loss_B = more_vs_fewer(loss_B, torch.where(paired_B, fewer_B, loss_B), self.config.train.ranking)
        return loss_B

    def remember(self, wrong_N: Tensor, kept: dict[str, Tensor]) -> None:
        """Use the result of a round without steps: which training patients are misclassified, (N,) bool."""

    def copies(self, kept: Mapping[str, Tensor]) -> Tensor | None:
        """Return the number of copies of each training patient when steps are drawn, (N,); None: one each."""
        return None


registry: Registry[Objective] = Registry("method.objective", "remind.objectives", Objective)


def is_head(name: str) -> bool:
    """Return whether a parameter of `SiteModel` is in the last layer, which fusion models call ``head``."""
    return name.startswith("fusion.head.")
