"""Computes the gradient of one local step: plainly or, if a hospital requires it, with a privacy guarantee."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

from remind.objectives.base import Objective, StepInput


class Gradients(ABC):
    """One way to compute the gradient of a step."""

    @abstractmethod
    def of(self, objective: Objective, step: StepInput) -> None:
        """Write the gradient of the step's loss to the parameters' ``grad``, which must be None before."""

    def listening(self) -> AbstractContextManager[None]:
        """Return a context in which tokens are made and `of` is called."""
        return nullcontext()

    @abstractmethod
    def of_nobody(self) -> None:
        """Write the gradient of a step in which no patient takes part."""


class PlainGradients(Gradients):
    """The exact gradient of the step's loss."""

    def of(self, objective: Objective, step: StepInput) -> None:
        """Backpropagate through the weighted sum of the patients' losses and the term that couples them."""
        objective.step_loss(step).backward()  # type: ignore[no-untyped-call]

    def of_nobody(self) -> None:
        """Leave the parameters without a gradient."""
