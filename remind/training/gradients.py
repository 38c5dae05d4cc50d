"""Computes the gradient of one local step, exactly or with a privacy guarantee."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

from remind.objectives.base import Objective, StepInput


class Gradients(ABC):
    """One way to compute the gradient of a step."""

    @abstractmethod
    def compute(self, objective: Objective, step: StepInput) -> None:
        """Write the gradient of the step's loss to the parameters' ``grad``, which must be None before."""

    def recording(self) -> AbstractContextManager[None]:
        """Return the context in which tokens are computed and `compute` is called."""
        return nullcontext()

    @abstractmethod
    def compute_empty(self) -> None:
        """Write the gradient of a step in which no patient takes part."""


class PlainGradients(Gradients):
    """The exact gradient of the step's loss."""

    def compute(self, objective: Objective, step: StepInput) -> None:
        """Backpropagate through the weighted sum of the patients' losses and the term that couples them."""
        objective.step_loss(step).backward()  # type: ignore[no-untyped-call]

    def compute_empty(self) -> None:
        """Leave the parameters without a gradient."""
