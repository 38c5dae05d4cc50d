"""`federation`: tensors that sites send, limits of replies, and how long a round waits."""

from typing import Annotated, Literal

from pydantic import Field

from remind.config.section import AtLeast1, Count, Fraction, Positive, Section, Unit01

WireType = Literal["float32", "bfloat16", "float64"]


class FederationConfig(Section):
    """Tensors that sites send, limits of replies, and how long a round waits."""

    encoders: Literal["local", "frozen", "shared"] = Field(
        "local",
        description="local: trained at the site, never sent; frozen: as initialised; shared: averaged by modality",
    )
    averaging: Fraction = Field(
        0.0,
        description="final model: mean over the last stage's rounds with this decay; 0: the last round's model",
    )
    min_sites: Annotated[int, Field(ge=0)] = Field(
        0,
        description="minimum number of valid replies; 0: more than half of the enrolled sites (1 in a simulation)",
    )
    min_group_share: Unit01 = Field(
        0.0, description="minimum share of each group's training patients at sites with valid replies; 0: any"
    )
    participation: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the connected sites that get a task, drawn in each round; never below min-sites"
    )
    draw: Literal["uniform", "share"] = Field(
        "uniform",
        description="how participation draws the sites: all alike, or in proportion to their shares of the objective",
    )
    estimate: Literal["ratio", "unbiased"] = Field(
        "ratio",
        description="ratio: average over the sites that answered; unbiased: the mean over all draws is the step of a "
        "round in which all take part (docs/methods.md)",
    )
    quorum: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share of sites whose replies close a round")
    deadline: Positive = Field(600.0, description="seconds after which a round closes without the missing sites")
    retries: Annotated[int, Field(ge=0)] = Field(
        2, description="repetitions of a round if too few sites answered and others may come back"
    )
    checkpoints: Count = Field(
        2, description="rounds whose state coordinator and sites keep, so that a killed run can be resumed"
    )
    secure_aggregation: bool = Field(
        False,
        description="hospitals answer under masks, so that only sums over three or more can be read; no tables by "
        "hospital (docs/secure-aggregation.md)",
    )
    dtype: WireType = Field("float32", description="type of the sent tensors")
    updates: Literal["exact", "int8"] = Field(
        "exact",
        description="what sites answer: tensors of this type, or int8: their updates in 8 bits with error feedback "
        "(docs/methods.md)",
    )
    max_update: Positive = Field(0.5, description="leave out an update with ‖update‖ > max-update · max(1, ‖sent‖)")
    max_update_ratio: AtLeast1 = Field(
        5.0,
        description="leave out an update that moves a block by more than this times the median of three sites or more, "
        "if by more than a tenth of max-update",
    )
    max_loss: Positive = Field(
        10.0, description="upper limit of a patient's loss in a group's reported loss, in units of ln(classes)"
    )
    max_patients: Count = Field(1_000_000, description="leave out a site that claims more training patients than this")
    max_patients_ratio: AtLeast1 = Field(
        100.0,
        description="leave out a site that claims more than this times the median of three sites or more",
    )
