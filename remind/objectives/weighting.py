"""How units, which are groups or hospitals, are weighed against each other as training goes on.

A weighting is a pair of pure functions on an immutable state; neither depends on the order in which units come.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic

from remind.objectives.group_dro import Unit, admit, initial_weights

__all__ = ["Proportional", "Unit", "WeightState", "Weighting"]


@dataclass(frozen=True)
class WeightState(Generic[Unit]):
    """Weights of the units, which sum to 1, and whatever else a method carries from round to round."""

    weights: Mapping[Unit, float]
    memory: Mapping[Unit, float] = field(default_factory=dict)


class Weighting(ABC):
    """A rule for the weights."""

    @abstractmethod
    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Weights before the first round, given the training patients of each unit."""

    def update(
        self, state: WeightState[Unit], risks: Mapping[Unit, float], counts: Mapping[Unit, int], steps: int
    ) -> WeightState[Unit]:
        """Weights of the next round.

        Parameters
        ----------
        state
            Of this round.
        risks
            Mean loss of the units that reported, on the model that the round began with.
        counts
            Training patients of every unit.
        steps
            Local steps of a round.
        """
        return state

    def admit(self, state: WeightState[Unit], counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """State with units first seen after the start: 1/G each, the odds of the others unchanged."""
        return WeightState(admit(state.weights, counts), state.memory)


class Proportional(Weighting):
    """Every patient counts alike: weights n/Σn, whatever the risks."""

    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """See `Weighting`."""
        return WeightState(initial_weights(counts, "proportional"))

    def admit(self, state: WeightState[Unit], counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Newcomers count by their patients too."""
        return self.initial(counts)
