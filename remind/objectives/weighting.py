"""The weights of units (groups or hospitals) relative to each other, and their update during training.

A weighting is a pair of pure functions on an immutable state; neither depends on the order of the units.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic

from typing_extensions import override

from remind.objectives.lambda_step import Unit, admit, initial_weights, tilted, weight_of

__all__ = ["Proportional", "Unit", "WeightState", "Weighting"]


@dataclass(frozen=True)
class WeightState(Generic[Unit]):
    """Weights of the units, which sum to 1, and anything else that a method keeps from round to round.

    Attributes
    ----------
    logs
        ln λ, where a method multiplies weights; `tilt` keeps it. Empty before the first update.
    known
        Last measured risk of the units, where a round's risks are estimated (`remind.federation.participation`).
    """

    weights: Mapping[Unit, float]
    memory: Mapping[Unit, float] = field(default_factory=dict)
    logs: Mapping[Unit, float] = field(default_factory=dict)
    known: Mapping[Unit, float] = field(default_factory=dict)

    def log_weights(self) -> dict[Unit, float]:
        """Return ln λ of every unit with a positive weight."""
        return {k: math.log(w) for k, w in self.weights.items() if w > 0} | dict(self.logs)

    def tilt(self, tilt: Mapping[Unit, float], most: float, memory: Mapping[Unit, float]) -> "WeightState[Unit]":
        """State after λ_k ∝ λ_k·exp(tilt_k) among the units in `tilt`; the others keep λ to the last bit.

        Parameters
        ----------
        most
            Largest change of ln(λ_j/λ_k) of two units, see `tilted`.
        memory
            Of the new state.
        """
        logs = self.log_weights()
        moved = tilted(logs, {k: t for k, t in tilt.items() if k in logs}, most)
        weights = {**self.weights, **{k: weight_of(log) for k, log in moved.items()}}
        return WeightState(weights, memory, logs | moved)


class Weighting(ABC):
    """A rule for the weights of the units.

    Attributes
    ----------
    linear
        Whether a step of `update` changes the log-odds by a linear function of the risks, as long as
        ``dro.max_log_odds_step`` does not bind: an unbiased estimate of the risks then gives an unbiased step.
    """

    linear: ClassVar[bool] = False

    @abstractmethod
    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Return the weights before the first round, from the training patients of each unit."""

    def update(
        self, state: WeightState[Unit], risks: Mapping[Unit, float], counts: Mapping[Unit, int], steps: float
    ) -> WeightState[Unit]:
        """Return the weights of the next round.

        Parameters
        ----------
        state
            Of this round.
        risks
            Mean loss of the units that reported, on the model that the round began with.
        counts
            Training patients of every unit.
        steps
            Local steps of a round; divided by the probability that the units were measured, where that is not 1.
        """
        return state

    @property
    def fixed(self) -> bool:
        """Whether no round changes the weights."""
        return type(self).update is Weighting.update

    def admit(self, state: WeightState[Unit], counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Return the state with units that appeared after the start: 1/G each, the odds of the others unchanged."""
        weights = admit(state.weights, counts)
        fresh = [k for k in weights if k not in state.weights]
        if not fresh or not state.logs:
            return WeightState(weights, state.memory, state.logs)
        kept = math.log(len(state.weights) / len(weights))
        logs = {k: log + kept for k, log in state.logs.items()} | {k: math.log(weights[k]) for k in fresh}
        return WeightState(weights, state.memory, logs)


class Proportional(Weighting):
    """Every patient has the same weight: units weigh n/Σn, whatever the risks."""

    @override
    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        return WeightState(initial_weights(counts, "proportional"))

    def admit(self, state: WeightState[Unit], counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Weigh new units by their patients, too."""
        return self.initial(counts)
