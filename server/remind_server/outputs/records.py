"""Records of a run, which the coordinator passes to its observers (results folder, progress, run store)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from remind.config import Config
from remind.data.cohort.schema import CohortSchema
from remind.federation.message_statistics import PrivacySpent
from remind.metrics.calibration import Calibration
from remind.metrics.statistics import GroupStatistics


@dataclass(frozen=True)
class RunStart:
    """The start of a run: site → training patients per group.

    Attributes
    ----------
    expected
        Registered names of all enrolled hospitals; empty in a simulation.
    named
        Site → whether its policy lets what is given away name it; sites without a policy are absent.
    """

    config: Config
    schema: CohortSchema
    sites: Mapping[str, Mapping[int, int]]
    counts: Mapping[int, int]
    refused: Mapping[str, str]
    expected: tuple[str, ...] = ()
    named: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundStart:
    """A round whose tasks are about to go out.

    Attributes
    ----------
    deadline
        Seconds after which the round closes, even if sites are missing.
    sites
        Every member → training patients per group, newcomers included.
    asked
        Members that are connected and get a task.
    refused
        Site that does not take part → reason, at this moment.
    """

    round: int
    rounds: int
    stage: int
    deadline: float
    sites: Mapping[str, Mapping[int, int]]
    asked: tuple[str, ...]
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
        Site → why it does not count in this round, expected hospitals that never connected included, refused ones not.
    late
        Those of them that were asked and had not answered at the deadline.
    how
        Site of `absent` → one word of `remind_server.rounds.collect.HOW` that says what kind of absence it was.
    frozen
        Groups of which no site counted: their part of the model, and their λ, stay as they were.
    expected, refused
        Sites that should take part, and refused site → reason, in this round.
    validation_by_site
        The parts that `validation` merges.
    withheld
        Site → groups that it trains on but withholds from its validation statistics: they are below its minimum.
    update_sizes
        Site → ‖update‖ / max(1, ‖sent‖) of what it answered, left out or not.
    best_round
        Rounds after which the best model so far was the global one; None: the run does not choose, or not yet.
    update_ratios
        Site → its largest block update, divided by the round's median of that block; only sites with compared blocks.
    privacy
        Answering site → its report of its privacy budget; only sites that report it.
    initial_counts
        Patients per group that the initial model was trained on (``start.model``); `counts` are this run's.
    effective_sites
        (Σ w)²/Σ w² over the weights with which the answers entered the shared parameters.
    sampling_error
        Standard error of the step owing to the draw of the sites, as a part of the step's norm; None: not estimated.
    chances
        Connected site → probability with which it was drawn for the round; empty if all were asked.
    risk_errors
        Standard error of R_k owing to the samples of patients on which it was measured (``train.measure-patients``);
        groups of whom all patients were measured are absent.
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
    validation_by_site: Mapping[str, Mapping[int, GroupStatistics]] = field(default_factory=dict)
    withheld: Mapping[str, Collection[int]] = field(default_factory=dict)
    update_sizes: Mapping[str, float] = field(default_factory=dict)
    update_ratios: Mapping[str, float] = field(default_factory=dict)
    best_round: int | None = None
    late: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    how: Mapping[str, str] = field(default_factory=dict)
    frozen: tuple[int, ...] = ()
    initial_counts: Mapping[int, int] = field(default_factory=dict)
    privacy: Mapping[str, PrivacySpent] = field(default_factory=dict)
    effective_sites: float = 0.0
    sampling_error: float | None = None
    chances: Mapping[str, float] = field(default_factory=dict)
    risk_errors: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """A finished run: the model, λ, and test and validation statistics per site and group.

    Attributes
    ----------
    round, last
        Rounds after which the model was the global one, and rounds that the run had; 0: not known.
    routing
        Whether the model is one of stage 2, used with Φ_k.
    selected
        Measure, score and value by which the round was chosen; None: it is the last.
    blend
        Share of hospitals' own scores that was chosen (``evaluation.choose-blend``); None: none was.
    calibration
        What turns its logits into probabilities and decisions; None: the run does not calibrate.
    calibrated
        Test statistics with the temperature, of three classes or more; with two they follow from `test`.
    withheld
        Site → groups that it trains on but withholds from its test statistics, because they are below its minimum.
    left_out
        Site → rounds in which its answer arrived but did not count; the rounds' records give the reason.
    privacy
        Site → its last report of its privacy budget; only sites that report it.
    last_tensors
        The model that would be the run's without a choice: the last, or the mean over the last stage.
    """

    config: Config
    schema: CohortSchema
    counts: Mapping[int, int]
    weights: Mapping[int, float]
    tensors: Mapping[str, Tensor]
    test: Mapping[str, Mapping[int, GroupStatistics]]
    validation: Mapping[str, Mapping[int, GroupStatistics]]
    absent: Mapping[str, str]
    seconds: float
    round: int = 0
    last: int = 0
    routing: bool = True
    selected: Mapping[str, str | float] | None = None
    blend: float | None = None
    calibration: Calibration | None = None
    calibrated: Mapping[str, Mapping[int, GroupStatistics]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    withheld: Mapping[str, Collection[int]] = field(default_factory=dict)
    last_tensors: Mapping[str, Tensor] = field(default_factory=dict)
    privacy: Mapping[str, PrivacySpent] = field(default_factory=dict)


class Observer:
    """Base class of everything that follows a run. A subclass overrides the events that it needs."""

    def begun(self, config: Config) -> None:
        """Handle the beginning of the run, before sites are enrolled."""

    def started(self, start: RunStart) -> None:
        """Handle the moment before the first round."""

    def remember(self) -> dict[str, Any]:
        """Return what this observer needs to continue in another process, as JSON; it is part of every checkpoint."""
        return {}

    def resumed(self, start: RunStart, round_: int, memory: Mapping[str, Any]) -> None:
        """Handle that a run resumes after so many rounds; replaces `begun` and `started`.

        `start` is the original beginning, `memory` what `remember` returned at the checkpoint. Records of later rounds
        are written again.
        """
        del round_, memory
        self.begun(start.config)
        self.started(start)

    def round_started(self, start: RoundStart) -> None:
        """Handle the moment before a round."""

    def answer_taken(self, site: str, problem: str | None) -> None:
        """Handle a site's answer in the round under way; `problem` is why it does not count, None if it does."""

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Handle the end of a round; `tensors` is the global model after it."""

    def finished(self, result: RunResult) -> None:
        """Handle the end of the run."""

    def failed(self, reason: str) -> None:
        """Handle a failed run; `reason` is a message for people."""
