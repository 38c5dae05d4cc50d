"""`privacy`: the guarantee that a run gives every patient, and what it releases under it.

C is the clipping norm, σ the noise multiplier, q the chance of a patient to be in a step (docs/privacy.md).
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from remind.config.section import AtLeast1, Count, NonNegative, Positive, Section, Unit01


class PrivacyConfig(Section):
    """Differential privacy of patients: add or remove one, and what leaves a hospital hardly changes."""

    mode: Literal["none", "site", "joint"] = Field(
        "none",
        description="none: no guarantee, minimum counts alone protect what leaves; site: differential privacy of each "
        "patient, with noise that each hospital adds to every step; joint: the hospitals share the noise under "
        "federation.secure-aggregation, one step a round",
    )
    epsilon: Positive = Field(8.0, description="ε that the run may spend on a patient, all releases together")
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-5,
        description="δ: at most a tenth of 1/n, n: patients of the largest hospital; joint: of all hospitals",
    )
    noise: NonNegative = Field(
        0.0, description="σ of a step, in units of privacy.clip; 0: each hospital finds that of privacy.epsilon"
    )
    clip: Positive = Field(1.0, description="C: a patient's gradient of all parameters together is no longer than this")
    rate: Unit01 = Field(
        0.0,
        description="q: chance of each patient to be in a step; 0: train.batch over the published count; joint: 0 "
        "is 1, all patients in each step",
    )
    r_max: AtLeast1 = Field(
        1.0,
        description="largest weight of a patient, in units of plain averaging: a rare group pulls so much harder, "
        "and the noise counts so much more",
    )
    counts_noise: Positive = Field(
        5.0, description="σ of the patients per combination that a hospital says at its enrolment, in patients"
    )
    loss_every: Annotated[int, Field(ge=0)] = Field(
        0, description="rounds between releases of the loss sums that move λ; 0: never, λ stays as it begins"
    )
    loss_noise: Positive = Field(
        30.0, description="σ of a released loss sum, in units of the largest loss of a patient"
    )
    scores_noise: Positive = Field(
        3.0, description="σ of each cell of the score histograms of the final examination, in patients"
    )
    scores_least: Count = Field(
        200, description="combinations with fewer validation or test patients at a hospital go without scores"
    )

    colluding: Annotated[int, Field(ge=0)] = Field(
        1,
        description="joint: hospitals whose share of the noise does not count, as they know it and might take it off; "
        "1: no hospital alone can",
    )

    @model_validator(mode="after")
    def _has_a_mode(self) -> Self:
        if self.mode == "none" and self != PrivacyConfig.model_construct():
            raise ValueError("these are settings of a guarantee, and mode = 'none' gives none: set privacy.mode")
        if self.mode == "site" and self.colluding != PrivacyConfig.model_fields["colluding"].default:
            raise ValueError("colluding is about noise that hospitals share: set mode = 'joint', or leave it out")
        return self
