"""Typed answers of the dashboard; the page, the JSON API, the CSV files and the metrics are made from them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from remind.metrics.score import extended
from remind.metrics.scores import BOUNDS, SCORES, WITH_INTERVAL

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
    """A score with its 95 % interval; null ends: not known, of a run that was imported from its folder."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Measured:
    """Scores of some patients.

    If `withheld` is set, only the number of patients is shown. If `suppressed` is set, nothing is shown. Either
    protects small groups. Otherwise, null means 'undefined', and n = 0 means no patients. `sites_withholding` counts
    the sites that train on the group but report nothing about these patients, because they have fewer than their
    minimum, or none (for all groups together: sites × groups). The numbers then cover the other sites; if there are
    no other sites, the cell is `suppressed`.
    """

    n: int | None
    positives: int | None = None
    suppressed: bool = False
    withheld: bool = False
    gate_open: float | None = None
    sites_withholding: int = 0

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # a field for each score, and for its bound


Measured = extended(  # type: ignore[misc]
    Measured,
    {name: (Estimate | None if score.interval else float | None, None) for name, score in SCORES.items()}
    | dict.fromkeys(BOUNDS, (float | None, None)),
)


@dataclass(frozen=True)
class SiteState:
    """A site and its result in the last finished round (`answered` is null before the first).

    Attributes
    ----------
    answer
        State in the current round of a site that has a task: `counts`, `does not count` (with `problem`), `awaited`,
        or `in line`. Answers are counted in the order of names; `in line` means that an earlier answer is awaited, and
        does not say whether this one has arrived. Null for other sites.
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
    """Summary of a run. Times are seconds since 1970, UTC; `heard` is the coordinator's last heartbeat.

    `change` grows with every event of the run, except `answers`: the replies taken in the current round.
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
class RunLine:
    """A run in the list.

    Attributes
    ----------
    method
        Fusion, objective and rule.
    seconds
        From its beginning to its end, or until now.
    missing
        Sites that did not count in the last round.
    overall
        Scores of all its patients: test patients, or validation patients where it has none yet. Null while it is being
        decided what may be shown.
    """

    run: RunState
    method: str
    seconds: float
    sites: int
    missing: list[str]
    patients: Patients
    overall: Measured | None
    tags: list[str]
    notes: str
    archived: bool


@dataclass(frozen=True)
class RunList:
    """A page of the list of runs.

    Attributes
    ----------
    found, total
        Runs that the search found, and all.
    unreadable
        Numbers of runs whose rows in the store are damaged.
    cohorts, tags
        Of all runs, for choices.
    """

    lines: list[RunLine]
    page: int
    pages: int
    found: int
    total: int
    archived: int
    unreadable: list[int]
    cohorts: list[str]
    tags: list[str]


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
        """Return the sites that counted in the last round."""
        return [site for site in self.sites if site.answered]

    @property
    def missing(self) -> list[SiteState]:
        """Return the sites that did not count in the last round."""
        return [site for site in self.sites if site.answered is False]

    @property
    def asked(self) -> list[SiteState]:
        """Return the sites that have a task in the current round."""
        return [site for site in self.sites if site.answer]

    @property
    def awaited(self) -> list[SiteState]:
        """Return the sites of the current round whose answers the coordinator waits for."""
        return [site for site in self.sites if site.answer == "awaited"]

    @property
    def in_line(self) -> list[SiteState]:
        """Return the sites whose answers, arrived or not, are counted after the awaited ones."""
        return [site for site in self.sites if site.answer == "in line"]

    @property
    def not_counting(self) -> list[SiteState]:
        """Return the sites of the current round whose answers do not count."""
        return [site for site in self.sites if site.answer == "does not count"]

    @property
    def refused(self) -> list[SiteState]:
        """Return the sites that do not take part in the run."""
        return [site for site in self.sites if site.refused]


@dataclass(frozen=True)
class GroupRow:
    """A group: current λ, R_k of the last round, scores, and the change of the sorted score over the last rounds.

    `ranked`: enough patients are shown, and enough of two classes among them, to call it the worst or the best
    (`metrics.aggregates`). The others are small: the page folds them into one row.
    """

    number: int
    name: str
    tail: bool
    train_n: int | None
    train_suppressed: bool
    weight: float | None
    risk: float | None
    scores: Measured
    change: float | None
    ranked: bool


@dataclass(frozen=True)
class Together:
    """Several groups whose patients are scored as one set.

    `scores` are null where they are not known: no such patients, or a run of an earlier version. `one_class` is the
    class that nearly everyone is called (`metrics.remarks`), null if there is none.
    """

    groups: int
    scores: Measured | None
    one_class: str | None = None


@dataclass(frozen=True)
class GroupTable:
    """All groups, worst first; those that are not ranked follow after the others.

    `small` are the groups that are not ranked, together, and `tail` all tail groups; `change_rounds` is the number of
    rounds that `change` spans.
    """

    run: int
    patients: Patients
    by: SortKey
    change_of: str
    change_rounds: int
    rows: list[GroupRow]
    small: Together
    tail: Together

    @property
    def ranked(self) -> list[GroupRow]:
        """Return the rows of the ranked groups."""
        return [row for row in self.rows if row.ranked]

    @property
    def largest(self) -> list[GroupRow]:
        """Return the ranked rows, or all if none is ranked, those with the most patients first."""
        return sorted(self.ranked or self.rows, key=lambda row: (-(row.scores.n or 0), row.name))


@dataclass(frozen=True)
class SiteScores:
    """A hospital: the scores of its own patients of all groups together."""

    number: int
    name: str
    scores: Measured
    ranked: bool


@dataclass(frozen=True)
class Hospital:
    """A hospital's own patients of all groups together, by one score.

    Attributes
    ----------
    trend
        The score on validation patients in each round; null where it is undefined, withheld or was not measured.
    alone
        The score where each hospital trained on its own patients alone (rule `local`), on the same patients; null if
        no such run of the same cohort, seed and division is in the store.
    gain
        This score less that of training alone, so that better is positive, with its 95 % interval. The interval
        takes the two for independent, which for the same patients is wider than need be.
    """

    number: int
    name: str
    train_n: int | None
    train_suppressed: bool
    scores: Measured
    ranked: bool
    trend: list[float | None]
    alone: Estimate | None
    gain: Estimate | None


@dataclass(frozen=True)
class Hospitals:
    """Hospitals, worst first by a score, too small ones last; `alone_run` is the run in which each trained alone."""

    run: int
    patients: Patients
    score: str
    rounds: list[int]
    alone_run: int | None
    rows: list[Hospital]


@dataclass(frozen=True)
class Verdict:
    """The first things to know of a run, by one score: overall, on the tail, the worst group and hospital.

    The worst are among the ranked ones alone, null if none is. `one_class` is the class that nearly everyone is called,
    and `recalls` the share of each class that is called so rightly.
    """

    run: int
    patients: Patients
    score: str
    overall: Measured
    tail: Together
    small: Together
    groups: int
    ranked_groups: int
    worst_group: GroupRow | None
    sites: int
    ranked_sites: int
    worst_site: SiteScores | None
    one_class: str | None
    recalls: dict[str, float]


@dataclass(frozen=True)
class Matrix:
    """One score of each group (rows, worst first) at each site (columns): n[g][s], value[g][s] and its 95 % interval.

    Null if the site has no such patients (n is 0), if the score is undefined, or if the number or the score is hidden:
    such cells are listed as [g, s] in `suppressed` (number and score hidden) and `withheld` (score hidden).
    """

    run: int
    patients: Patients
    score: str
    sites: list[str]
    groups: list[str]
    tail: list[bool]
    n: list[Counts]
    value: list[Numbers]
    low: list[Numbers]
    high: list[Numbers]
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
    suppressed: list[int] = field(default_factory=list)
    withheld: list[int] = field(default_factory=list)


Curve = extended(Curve, dict.fromkeys(SCORES, (Numbers, list)))  # type: ignore[misc]


@dataclass(frozen=True)
class Curves:
    """Columns over the finished rounds; a curve lists the positions whose number or scores are hidden."""

    run: int
    round: list[int]
    stage: list[int]
    seconds: list[float]
    bytes_down: list[int]
    bytes_up: list[int]
    curves: list[Curve]


@dataclass(frozen=True)
class ExpertRow:
    """Mean weight of each expert over a group's patients, 0 … 1; null if withheld or not measured.

    `in_effect` is the effective number of experts: exp of the entropy of the weights.
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
    """Groups × experts; the first row is all groups together. No rows if the model has no experts, or uses none yet."""

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
class Range:
    """Patients of a range of predicted probability, those of the class among them, and the mean prediction."""

    low: float
    high: float
    n: int
    of_class: int
    predicted: float


@dataclass(frozen=True)
class ThresholdPoint:
    """What a threshold probability achieves; precision is null where nobody is called, `called` a share of all."""

    threshold: float
    sensitivity: float
    specificity: float
    precision: float | None
    called: float


@dataclass(frozen=True)
class Chosen:
    """What the decision in use achieves, with 95 % intervals; `wanted` is the operating point's condition, or empty."""

    wanted: str
    threshold: float
    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    specificity: float
    specificity_low: float
    specificity_high: float


@dataclass(frozen=True)
class GroupCurves:
    """ROC, precision–recall, calibration and threshold curves of a group's patients, or of all.

    `points` go from a threshold that calls nobody to one that calls everybody; `ranges` are what they are made of, from
    the lowest probability up. Probabilities are calibrated where `calibrated` says so.
    """

    number: int
    group: str
    scored: str
    n: int
    of_class: int
    calibrated: bool
    ranges: list[Range]
    points: list[ThresholdPoint]
    chosen: Chosen | None


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
class Event:
    """Something that happened in a round; 0: before the rounds."""

    round: int
    kind: Literal["joined", "missing", "back", "refused", "stage", "best", "ended"]
    site: str | None
    text: str
    alert: bool


@dataclass(frozen=True)
class Timeline:
    """The events of a run, by round."""

    run: int
    rounds: int
    events: list[Event]

    @property
    def alerts(self) -> list[Event]:
        """Return what somebody should look into."""
        return [event for event in self.events if event.alert]


@dataclass(frozen=True)
class Pair:
    """A group in both runs; null if a run does not have it.

    `difference` is second minus first, `low` and `high` its 95 % interval (`metrics.differences`); `sure` if that does
    not hold 0.
    """

    name: str
    tail: bool
    ranked: bool
    first: Measured | None
    second: Measured | None
    difference: float | None
    low: float | None = None
    high: float | None = None

    @property
    def sure(self) -> bool:
        """Return whether the interval of the difference excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Comparison:
    """Two runs: different settings, overall scores, every group, and the small groups and the tail together.

    `paired`: nothing says that the patients differ; else `warnings` say what does.
    """

    first: RunReport
    second: RunReport
    score: str
    paired: bool
    warnings: list[str]
    settings: dict[str, tuple[str | int | float | bool | None, str | int | float | bool | None]]
    overall: Pair
    tail: Pair
    groups: list[Pair]


@dataclass(frozen=True)
class SideBySide:
    """Several runs: scores overall and on the tail, and the settings that are not the same in all of them."""

    runs: list[RunReport]
    tails: list[Together]
    score: str
    warnings: list[str]
    settings: dict[str, list[str | int | float | bool | None]]
