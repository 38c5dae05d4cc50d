"""The messages between sites and coordinator.

Each type is closed: a field that is not defined here is neither sent nor accepted. Statistics in them are of
`message_statistics`; what secure aggregation adds is in `secure_messages`.

Tensors are sent beside a message in one buffer, whose index is in the message (`blocks`). λ, n_k, Φ_k and B_k of a
group appear only in messages to and from sites that observe it; encoder tensors only if encoders are shared.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from remind.federation.blocks import Entry
from remind.federation.message_statistics import Evaluation, LossSum, PrivacySpent, Tempered
from remind.federation.message_types import Count, Finite, Group, Message, Name, Natural, Share, Words
from remind.federation.secure_messages import Secure
from remind.quoting import LONGEST


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
    labels: dict[Group, tuple[Natural, ...]] = Field(default_factory=dict)
    held_out: dict[Group, Count] = Field(default_factory=dict)
    minimum: Count = 1
    named: bool | None = None


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
        Those of the site's groups that the initial model (``start.model``) knows; none if the model is new.
    routed
        Whether Φ_k is in use in stage 1 too, as in the initial model.
    counted
        The last round of this stage in which the site's answer counted, where the rule asks; None: none.
    secure
        Among whom each block of the answer is summed; None: the answer is not masked.
    held
        Blocks that are left out because the site has them, with the digest of each (`held.digests`).
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
    labels: dict[Group, tuple[Natural, ...]] = Field(default_factory=dict)
    candidates: Annotated[tuple[Natural, ...], Field(max_length=2)] = ()
    given: tuple[Group, ...] = ()
    routed: bool = False
    counted: Natural | None = None
    secure: Secure | None = None
    held: dict[Name, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = Field(default_factory=dict)
    index: tuple[Entry, ...]

    @property
    def routing(self) -> bool:
        """Whether Φ_k is in use."""
        return self.stage == 2 or self.routed


class Report(Message):
    """Site → coordinator: statistics of the model as received, and the blocks after the local steps.

    Attributes
    ----------
    local
        Losses of the training patients on the site's own model, after the steps; only where the run's rule asks.
    """

    kind: Literal["report"] = "report"
    round: Natural
    share: Share
    train: dict[Group, LossSum]
    validation: dict[Group, Evaluation]
    local: dict[Group, LossSum] = Field(default_factory=dict)
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
    counts: dict[Group, Count] = Field(default_factory=dict)
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
    calibrated: dict[Group, Evaluation] = Field(default_factory=dict)
    tempered: dict[Group, Tempered] = Field(default_factory=dict)
    seconds: Finite


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
