"""How the gradient of one local step comes about: plainly, or, where a hospital asks for it, with a guarantee."""

from abc import ABC, abstractmethod

from remind.objectives.base import Objective, StepInput


class Gradients(ABC):
    """One way to compute the gradient of a step."""

    @abstractmethod
    def of(self, objective: Objective, step: StepInput) -> None:
        """Leave the gradient of the step's loss in the parameters' ``grad``, which are None before."""


class PlainGradients(Gradients):
    """The gradient of the step's loss, as it is."""

    def of(self, objective: Objective, step: StepInput) -> None:
        """Backward through the weighted sum of the patients' losses, and what couples them."""
        objective.step_loss(step).backward()  # type: ignore[no-untyped-call]
