"""The messages between sites and coordinator.

Each type is closed: a field that is not defined here is neither sent nor accepted.

Tensors are sent beside a message in one buffer, whose index is in the message (`blocks`). λ, n_k, Φ_k and B_k of a
group appear only in messages to and from sites that observe it; encoder tensors only if encoders are shared. Shapes: C
classes, E experts.
"""

import math
from functools import partial
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from remind.federation.blocks import Entry
from remind.groups import MAX_MODALITIES
from remind.metrics.histograms import BINS, GRID, ScoreHistograms
from remind.metrics.statistics import MOST_LOG_LOSS, GroupLoss, GroupStatistics, scored_classes
from remind.metrics.tempering import BETA_K, TemperedSums
from remind.quoting import LONGEST, SHORT, printable, quoted
from remind.secagg.book import Book
from remind.secagg.exchanged import Ask, Masked, Opened, Slot
from remind.secagg.keys import Hex, SignedKeys, Slots

MOST_EXPERTS = 2**16  # in a model; far more than fit into any machine
USE_DIGITS = 4  # decimals of a use sum: a map needs no more, and every digit reveals something about patients
MOST_CLASSES_LOG = 20.0  # ln of the number of classes, and far more
MOST = 10**12  # of anything counted or summed: far beyond any cohort, and sums over sites stay exact and finite


Group = Annotated[int, Field(ge=1, lt=2**MAX_MODALITIES)]
Natural = Annotated[int, Field(ge=0, le=MOST)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Finite = Annotated[float, Field(ge=0, le=MOST)]
Words = Annotated[str, AfterValidator(partial(printable, keep="\n"))]
Name = Annotated[str, Field(min_length=1, max_length=SHORT), AfterValidator(printable)]
Share = Annotated[float, Field(ge=0, le=1 + 1e-9)]  # a share may exceed 1 by rounding


class Message(BaseModel):
    """Base class of messages: frozen and closed, read from and written to JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def first_problem(error: ValidationError) -> str:
    """Return a message's first problem in one line, without the values and field names that another party chose."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{quoted('.'.join(map(str, first['loc'])))}: {quoted(first['msg'])}"


class LossSum(Message):
    """`GroupLoss` on the wire."""

    count: Count
    loss_sum: Finite

    @classmethod
    def of(cls, loss: GroupLoss) -> Self:
        """Message of the statistics."""
        return cls(count=loss.count, loss_sum=loss.loss_sum)

    def value(self) -> GroupLoss:
        """The statistics."""
        return GroupLoss(self.count, self.loss_sum)


class Evaluation(Message):
    """`GroupStatistics` as a message; use sums are rounded.

    `bins` is the version of the score histograms' bins (`histograms.GRID`). Histograms of another version cannot be
    added.
    """

    count: Count
    loss_sum: Finite
    log_loss_sum: Finite
    log_loss_squares: Finite
    brier_sum: Finite
    brier_squares: Finite
    open_sum: Finite
    confusion: list[list[Natural]]
    bins: Literal[2]
    scores: list[tuple[Natural, Natural, Natural, Count]]
    use_sum: Annotated[list[Finite], Field(max_length=MOST_EXPERTS)] = []

    @classmethod
    def of(cls, statistics: GroupStatistics) -> Self:
        """Message of the statistics."""
        return cls(
            count=statistics.count,
            loss_sum=statistics.loss_sum,
            log_loss_sum=statistics.log_loss_sum,
            log_loss_squares=statistics.log_loss_squares,
            brier_sum=statistics.brier_sum,
            brier_squares=statistics.brier_squares,
            bins=GRID,
            open_sum=statistics.open_sum,
            confusion=statistics.confusion_CC.tolist(),
            scores=statistics.scores.cells(),
            use_sum=statistics.use_sum_E.round(USE_DIGITS).tolist(),
        )

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        classes = len(self.confusion)
        if any(len(row) != classes for row in self.confusion) or sum(map(sum, self.confusion)) != self.count:
            raise ValueError("confusion is not square or does not add up to count")
        if self.open_sum > self.count:
            raise ValueError("open_sum is more than count")
        for name, most in (("log_loss", math.inf), ("brier", 1.0 if classes == 2 else 2.0)):
            _sums_fit(name, self.count, getattr(self, f"{name}_sum"), getattr(self, f"{name}_squares"), most)
        rounding = 0.02 * self.count + len(self.use_sum) * 10.0**-USE_DIGITS  # the weights may be of bfloat16
        if sum(self.use_sum) > self.count + rounding:
            raise ValueError("use_sum adds up to more than count")
        of_class = [sum(self.confusion[c]) for c in scored_classes(classes)]
        found = [[0, 0] for _ in of_class]
        for h, hit, k, number in self.scores:
            if h >= len(found) or hit > 1 or k >= BINS:
                raise ValueError(f"score bin ({h}, {hit}, {k}) does not exist")
            found[h][hit] += number
        if found != [[self.count - number, number] for number in of_class]:
            raise ValueError("a score histogram does not add up to the patients of its class and the rest")
        return self

    def value(self) -> GroupStatistics:
        """The statistics."""
        confusion_CC = np.array(self.confusion, dtype=np.int64)
        scores = ScoreHistograms.of(self.scores)
        use_sum_E = np.array(self.use_sum, dtype=np.float64)
        return GroupStatistics(
            count=self.count,
            loss_sum=self.loss_sum,
            log_loss_sum=self.log_loss_sum,
            log_loss_squares=self.log_loss_squares,
            brier_sum=self.brier_sum,
            brier_squares=self.brier_squares,
            open_sum=self.open_sum,
            confusion_CC=confusion_CC,
            scores=scores,
            use_sum_E=use_sum_E,
        )


Sums = Annotated[tuple[Finite, ...], Field(min_length=len(BETA_K), max_length=len(BETA_K))]
Slopes = Annotated[
    tuple[Annotated[float, Field(ge=-MOST, le=MOST)], ...], Field(min_length=len(BETA_K), max_length=len(BETA_K))
]


class Tempered(Message):
    """`TemperedSums` on the wire."""

    count: Count
    loss: Sums
    slope: Slopes

    @classmethod
    def of(cls, sums: TemperedSums) -> Self:
        """Message of the sums; rounding may make a loss negative by less than any patient's."""
        return cls(count=sums.count, loss=tuple(sums.loss_K.clip(min=0).tolist()), slope=tuple(sums.slope_K.tolist()))

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        losses = zip(self.loss, BETA_K.tolist(), strict=True)
        if any(loss > self.count * (MOST_LOG_LOSS * beta + MOST_CLASSES_LOG) for loss, beta in losses):
            raise ValueError("loss is more than that of so many patients can be")
        if any(abs(slope) > self.count * MOST_LOG_LOSS for slope in self.slope):
            raise ValueError("slope is more than that of so many patients can be")
        return self

    def value(self) -> TemperedSums:
        """The sums."""
        return TemperedSums(self.count, np.array(self.loss), np.array(self.slope))


def _sums_fit(name: str, count: int, total: float, squares: float, most: float) -> None:
    """Refuse a sum and a sum of squares that no `count` values of 0 … `most` have."""
    slack = 1 + 1e-9
    if total > most * count * slack:
        raise ValueError(f"{name}_sum is more than {most:g} for each of count")
    if not total**2 / count <= squares * slack + 1e-12 or squares > min(most, total) * total * slack + 1e-12:
        raise ValueError(f"{name}_squares is no sum of squares of what adds up to {name}_sum")


class Enrol(Message):
    """Coordinator → site: identify yourself and describe your cohort."""

    kind: Literal["enrol"] = "enrol"
    version: Name


class Enrolment(Message):
    """Site → coordinator: schema and groups, as far as the site's policy allows.

    Attributes
    ----------
    counts
        n_{s,k}: training patients per group.
    observed
        Groups among all its patients; it can receive Φ_k and B_k of these.
    labels
        Training patients of each group by class; only where the run's objective needs them.
    held_out
        Validation patients of each group that has training patients; only where the run's objective trains on them.
    minimum
        The site's policy suppresses measurements of groups with fewer patients; 1: nothing is suppressed.
    named
        Whether what the coordinator gives away, such as a model card, may name the site; None: it has no policy, as a
        virtual hospital.
    """

    kind: Literal["enrolment"] = "enrolment"
    site: Name
    version: Name
    cohort_schema: dict[str, Any]
    fingerprint: str
    counts: dict[Group, Count]
    observed: tuple[Group, ...]
    labels: dict[Group, tuple[Natural, ...]] = {}
    held_out: dict[Group, Count] = {}
    minimum: Count = 1
    named: bool | None = None


class Prepare(Message):
    """Coordinator → site: publish your keys for the run's secure aggregation."""

    kind: Literal["prepare"] = "prepare"
    slots: Slots


class Keys(Message):
    """Site → coordinator: its public keys, signed."""

    kind: Literal["keys"] = "keys"
    keys: SignedKeys


class Deal(Message):
    """Coordinator → site: everybody's keys; deal shares of your mask secrets."""

    kind: Literal["deal"] = "deal"
    book: Book


class Dealt(Message):
    """Site → coordinator: for each site its shares, in boxes that only that site opens."""

    kind: Literal["dealt"] = "dealt"
    boxes: dict[Name, Hex]


class Secure(Message):
    """Of a task or an examination whose answer goes under masks.

    Attributes
    ----------
    observers
        Block → the sites whose answers are summed. Blocks that are not named are not sent.
    patient, whole
        Of a task: group → the weight of each of its patients, at all sites; block → Σ_s of the objective's parts that
        reach it.
    experts
        Of an examination: length of a group's use of experts.
    """

    slot: Slot
    observers: dict[Annotated[str, Field(max_length=300)], tuple[Name, ...]]
    patient: dict[Group, Finite] = {}
    whole: dict[Annotated[str, Field(max_length=300)], Finite] = {}
    experts: Annotated[int, Field(ge=0, le=MOST_EXPERTS)] = 0


class Task(Message):
    """Coordinator → site: one round on the model in the buffer. Only the site's own groups are named.

    Attributes
    ----------
    stage, stage_round, stage_rounds
        1 warm-up or 2 routing; round within the stage, from 0; rounds of the stage.
    weights, counts
        λ_k, and the global n_k.
    block_weights
        a_s of each block (`federation.weights`).
    labels
        Patients behind `counts` by class; only where the objective needs them.
    candidates
        Rounds whose models may still become the run's: the site keeps its own tensors of these.
    given
        Those of the site's groups that the model to begin with (``start.model``) knows; none where it is a new one.
    routed
        Whether Φ_k is in use in stage 1 too, as in the model to begin with.
    secure
        Among whom each block of the answer is summed; None: the answer is not masked.
    """

    kind: Literal["task"] = "task"
    round: Natural
    stage: Literal[1, 2]
    stage_round: Natural
    stage_rounds: Count
    seed: Natural
    weights: dict[Group, Share]
    counts: dict[Group, Count]
    block_weights: dict[str, Share]
    labels: dict[Group, tuple[Natural, ...]] = {}
    candidates: Annotated[tuple[Natural, ...], Field(max_length=2)] = ()
    given: tuple[Group, ...] = ()
    routed: bool = False
    secure: Secure | None = None
    index: tuple[Entry, ...]

    @property
    def routing(self) -> bool:
        """Whether Φ_k is in use."""
        return self.stage == 2 or self.routed


class PrivacySpent(Message):
    """What a site's patients have spent of their privacy in this run, where its policy tells it.

    Attributes
    ----------
    epsilon, delta
        Of all releases together.
    left
        ε that this run may still spend there.
    releases
        Kind of release, such as ``training gradient`` → ε of these alone.
    """

    epsilon: Finite
    delta: Share
    left: Finite
    releases: Annotated[dict[Name, Finite], Field(max_length=10)]


class Report(Message):
    """Site → coordinator: statistics of the model as received, and the blocks after the local steps."""

    kind: Literal["report"] = "report"
    round: Natural
    share: Share
    train: dict[Group, LossSum]
    validation: dict[Group, Evaluation]
    seconds: Finite
    index: tuple[Entry, ...]
    privacy: PrivacySpent | None = None


class Examine(Message):
    """Coordinator → site: measure the model in the buffer on test patients and on validation patients.

    A model that is measured on test patients is the finished one, which the site keeps: the run has ended for it.

    Attributes
    ----------
    round
        Whose model it is; the site's own tensors of that round belong to it.
    on_test
        False: on validation patients alone.
    temper
        Whether to send what a temperature is fitted on (`metrics.tempering`).
    temperature
        Test patients are measured with logits divided by it too; 1: not.
    counts
        The global n_k of the site's own groups: how many patients the model learnt each combination from.
    secure
        Among whom the statistics of each group are summed; None: they are not masked.
    """

    kind: Literal["examine"] = "examine"
    round: Natural
    routing: bool
    counts: dict[Group, Count] = {}
    on_test: bool = True
    temper: bool = False
    temperature: Annotated[float, Field(gt=0, le=1e3)] = 1.0
    secure: Secure | None = None
    index: tuple[Entry, ...]


class Examination(Message):
    """Site → coordinator: statistics of the test patients, and of the validation patients on the same model.

    Attributes
    ----------
    calibrated
        Of the test patients, with the temperature that was asked for.
    tempered
        Of the validation patients: what a temperature is fitted on.
    """

    kind: Literal["examination"] = "examination"
    round: Natural
    test: dict[Group, Evaluation]
    validation: dict[Group, Evaluation]
    calibrated: dict[Group, Evaluation] = {}
    tempered: dict[Group, Tempered] = {}
    seconds: Finite


class MaskedAnswer(Message):
    """Site → coordinator: the blocks in the buffer are masked; they mean something only when summed."""

    kind: Literal["masked"] = "masked"
    round: Natural
    seconds: Finite
    beside: Masked


class Unmask(Message):
    """Coordinator → site: who answered; open your shares."""

    kind: Literal["unmask"] = "unmask"
    ask: Ask


class Unmasked(Message):
    """Site → coordinator: its shares."""

    kind: Literal["unmasked"] = "unmasked"
    opened: Opened


class Refusal(Message):
    """Site → coordinator: the task is refused. The reason may leave the site.

    Attributes
    ----------
    leaves
        The site takes no further part in the run's rounds; it may still be asked to examine the final model.
    """

    kind: Literal["refusal"] = "refusal"
    reason: Annotated[Words, Field(max_length=LONGEST)]
    leaves: bool = False
