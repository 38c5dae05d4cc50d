"""What the dashboard says, as values: the same ones make the page, the JSON API, the CSV files and the metrics."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from remind.metrics.score import extended, names_of
from remind.metrics.scores import MORE, SCORES, WITH_INTERVAL

Status = Literal["waiting", "running", "stalled", "finished", "incomplete", "failed"]
Patients = Literal["validation", "test"]
if TYPE_CHECKING:
    ScoreName = str
    SortKey = str
else:
    ScoreName = Literal[WITH_INTERVAL]
    SortKey = Literal[("log_loss", *(n for n in SCORES if n != "log_loss"), "n", "weight", "train_n", "name")]
Answer = Literal["counts", "does not count", "awaited", "in line"]
Numbers = list[float | None]
Counts = list[int | None]


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """Scores of some patients.

    With `withheld`, everything but their number is null, and with `suppressed` that too: either would tell of few
    patients. Otherwise null is 'undefined', and n = 0 is nobody. `sites_withholding` is how many sites train on the
    group and do not tell of these patients, as there are fewer than their minimum, or none (of all groups together:
    sites × groups); the numbers are then of the other sites, and without any of these the cell is `suppressed`.
    """

    n: int | None
    positives: int | None = None
    suppressed: bool = False
    withheld: bool = False
    accuracy: Estimate | None = None
    balanced_accuracy: Estimate | None = None
    macro_f1: Estimate | None = None
    auroc: Estimate | None = None
    auprc: Estimate | None = None
    sensitivity: Estimate | None = None
    net_benefit: Estimate | None = None
    brier: Estimate | None = None
    ece: Estimate | None = None
    auroc_bound: float | None = None
    auprc_bound: float | None = None
    sensitivity_bound: float | None = None
    log_loss: float | None = None
    loss: float | None = None
    gate_open: float | None = None
    sites_withholding: int = 0


if MORE:
    Measured = extended(  # type: ignore[misc]
        Measured,
        {name: (Estimate | None if score.interval else float | None, None) for name, score in MORE.items()}
        | dict.fromkeys(names_of(MORE, ("_bound",)), (float | None, None)),
    )


@dataclass(frozen=True)
class SiteState:
    """A site and how it fared in the last round that ended (`answered` is null before the first).

    Attributes
    ----------
    answer
        In the round under way, of a site that is asked: `counts`, `does not count` (with `problem`), `awaited`, or
        `in line`: answers are counted in the order of names, and one before its own is awaited; whether it has come is
        not said. Null otherwise.
    """

    number: int
    name: str
    train_n: int | None
    train_suppressed: bool
    asked: bool
    answered: bool | None
    absent: str | None
    refused: str | None
    answer: Answer | None = None
    problem: str | None = None


@dataclass(frozen=True)
class RunState:
    """A run at a glance. Times are seconds since 1970, UTC; `heard` is the coordinator's last sign of life.

    `change` grows with every event of the run but the `answers` taken in the round under way, which are counted apart.
    """

    id: int
    name: str
    folder: str
    cohort: str
    seed: int
    version: str
    status: Status
    reason: str
    began: float
    heard: float
    ended: float | None
    round: int
    rounds: int
    stage: int
    round_began: float | None
    round_closes: float | None
    change: int
    answers: int


@dataclass(frozen=True)
class RunReport:
    """A run's health and overall scores; `left_seconds` extrapolates the last three rounds."""

    run: RunState
    patients: Patients
    classes: list[str]
    modalities: list[str]
    sites: list[SiteState]
    overall: Measured
    groups: int
    tail_groups: int
    last_seconds: float | None
    mean_seconds: float | None
    left_seconds: float | None
    bytes_down: int
    bytes_up: int
    settings: dict[str, str | int | float | bool]

    @property
    def answered(self) -> list[SiteState]:
        """Sites that counted in the last round."""
        return [site for site in self.sites if site.answered]

    @property
    def missing(self) -> list[SiteState]:
        """Sites that did not."""
        return [site for site in self.sites if site.answered is False]

    @property
    def asked(self) -> list[SiteState]:
        """Sites that are asked in the round under way."""
        return [site for site in self.sites if site.answer]

    @property
    def awaited(self) -> list[SiteState]:
        """Of these, whose answers are being waited for."""
        return [site for site in self.sites if site.answer == "awaited"]

    @property
    def in_line(self) -> list[SiteState]:
        """And whose answers are counted after theirs, come or not."""
        return [site for site in self.sites if site.answer == "in line"]

    @property
    def not_counting(self) -> list[SiteState]:
        """And whose answers do not count."""
        return [site for site in self.sites if site.answer == "does not count"]

    @property
    def refused(self) -> list[SiteState]:
        """Who does not take part at all."""
        return [site for site in self.sites if site.refused]


@dataclass(frozen=True)
class GroupRow:
    """A group: λ now, R_k of the last round, scores, and the change of the sorted score over the last rounds."""

    number: int
    name: str
    tail: bool
    train_n: int | None
    train_suppressed: bool
    weight: float | None
    risk: float | None
    scores: Measured
    change: float | None


@dataclass(frozen=True)
class GroupTable:
    """All groups, worst first; `change_rounds` says over how many rounds `change` looks back."""

    run: int
    patients: Patients
    by: SortKey
    change_of: str
    change_rounds: int
    rows: list[GroupRow]


@dataclass(frozen=True)
class Matrix:
    """One score of each group (rows, worst first) at each site (columns): n[g][s] and value[g][s].

    Null where the site has no such patients (n is 0), the score is undefined, or the number or the score may not be
    shown: those are listed as [g, s] in `suppressed` (neither is) and `withheld` (the score is not).
    """

    run: int
    patients: Patients
    score: str
    sites: list[str]
    groups: list[str]
    tail: list[bool]
    n: list[Counts]
    value: list[Numbers]
    suppressed: list[tuple[int, int]]
    withheld: list[tuple[int, int]]


@dataclass(frozen=True)
class Curve:
    """One group over the rounds; number 0 is all groups together. Scores are of validation patients."""

    number: int
    name: str
    weight: Numbers
    risk: Numbers
    gate_open: Numbers
    n: Counts
    log_loss: Numbers
    loss: Numbers
    accuracy: Numbers
    balanced_accuracy: Numbers
    macro_f1: Numbers
    auroc: Numbers
    auprc: Numbers
    sensitivity: Numbers
    net_benefit: Numbers
    brier: Numbers
    ece: Numbers
    suppressed: list[int] = field(default_factory=list)
    withheld: list[int] = field(default_factory=list)


if MORE:
    Curve = extended(Curve, dict.fromkeys(MORE, (Numbers, list)))  # type: ignore[misc]


@dataclass(frozen=True)
class Curves:
    """Columns over the rounds that ended; a curve lists the positions whose number or scores are not shown."""

    run: int
    round: list[int]
    stage: list[int]
    seconds: list[float]
    bytes_down: list[int]
    bytes_up: list[int]
    curves: list[Curve]


@dataclass(frozen=True)
class ExpertRow:
    """How much each expert weighs in a group: mean over its patients, 0 … 1; null if withheld or not measured.

    `in_effect` is the number of equally used experts that would be as spread out, exp of the weights' entropy.
    """

    name: str
    tail: bool
    n: int | None
    suppressed: bool
    withheld: bool
    in_effect: float | None
    use: list[float] | None


@dataclass(frozen=True)
class ExpertMap:
    """Groups × experts, the first row all groups together; no rows if the model has no experts, or none in use yet."""

    run: int
    patients: Patients
    experts: int
    rows: list[ExpertRow]


@dataclass(frozen=True)
class ModelScores:
    """Probabilities and decisions of a group's test patients, or of all, raw or calibrated; intervals are of 95 %.

    Sensitivity and specificity are of the decisions: at the operating point where there is one, else of the likeliest
    class; null unless there are two classes.
    """

    group: str
    model: str
    n: int
    log_loss: float
    log_loss_low: float
    log_loss_high: float
    brier: float
    brier_low: float
    brier_high: float
    ece: float
    ece_low: float
    ece_high: float
    sensitivity: float | None
    sensitivity_low: float | None
    sensitivity_high: float | None
    specificity: float | None
    specificity_low: float | None
    specificity_high: float | None


@dataclass(frozen=True)
class ReliabilityBin:
    """Patients of a range of predicted probability of the scored class, of whom so many are of it."""

    group: str
    model: str
    scored: str
    low: float
    high: float
    n: int
    of_class: int
    predicted: float

    @property
    def observed(self) -> float:
        """The share that is of the class."""
        return self.of_class / self.n


@dataclass(frozen=True)
class DecisionPoint:
    """Net benefit at a threshold probability, by the model and of treating everybody; of treating nobody it is 0."""

    group: str
    model: str
    scored: str
    threshold: float
    net_benefit: float
    treat_all: float


@dataclass(frozen=True)
class ModelCard:
    """The model of a run that has ended: which round's and why (null: the last), its calibration and decisions."""

    run: int
    round: int
    last_round: int
    selected: dict[str, str | float] | None
    method: str
    reason: str
    operating_point: str
    scores: list[ModelScores]
    reliability: list[ReliabilityBin]
    decisions: list[DecisionPoint]


@dataclass(frozen=True)
class Pair:
    """A group in both runs; null where a run does not have it. `difference` is that of the second minus the first."""

    name: str
    tail: bool
    first: Measured | None
    second: Measured | None
    difference: float | None


@dataclass(frozen=True)
class Comparison:
    """Two runs: what was set differently, overall scores, and every group."""

    first: RunReport
    second: RunReport
    score: str
    settings: dict[str, tuple[str | int | float | bool | None, str | int | float | bool | None]]
    overall: Pair
    groups: list[Pair]
