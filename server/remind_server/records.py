"""What the coordinator knows of a run, as values: handed to observers (results folder, progress, later a store)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from remind.config import Config
from remind.data.schema import CohortSchema
from remind.metrics.statistics import GroupStatistics


@dataclass(frozen=True)
class RunStart:
    """A run that begins: site → training patients per group."""

    config: Config
    schema: CohortSchema
    sites: Mapping[str, Mapping[int, int]]
    counts: Mapping[int, int]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class RoundRecord:
    """One round.

    Attributes
    ----------
    weights_used, weights_after
        λ that weighted the round's training, and λ after its GroupDRO step.
    risks
        R_k of the groups that reported, measured on the model as sent, before any step of this round.
    validation
        Statistics of validation patients over all sites, on the same model: the one after `round` − 1.
    absent
        Site → why it does not count in this round.
    """

    round: int
    rounds: int
    stage: int
    seconds: float
    counts: Mapping[int, int]
    weights_used: Mapping[int, float]
    weights_after: Mapping[int, float]
    risks: Mapping[int, float]
    validation: Mapping[int, GroupStatistics]
    answered: tuple[str, ...]
    absent: Mapping[str, str]
    bytes_down: int
    bytes_up: int


@dataclass(frozen=True)
class RunResult:
    """A finished run: the model, λ, and test and validation statistics per site and group."""

    config: Config
    schema: CohortSchema
    counts: Mapping[int, int]
    weights: Mapping[int, float]
    tensors: Mapping[str, Tensor]
    test: Mapping[str, Mapping[int, GroupStatistics]]
    validation: Mapping[str, Mapping[int, GroupStatistics]]
    absent: Mapping[str, str]
    seconds: float


class Observer(Protocol):
    """Something that follows a run."""

    def started(self, start: RunStart) -> None:
        """Handle the first round's being about to begin."""

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Handle the end of a round; `tensors` is the global model after it."""

    def finished(self, result: RunResult) -> None:
        """Handle the end of the run."""
