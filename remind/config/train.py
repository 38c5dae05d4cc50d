"""`train` and `dro`: local training at a site, and the weights of groups."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from remind.config.section import Count, Fraction, NonNegative, Positive, Section
from remind.groups import MAX_MODALITIES

Sampling = Literal["group", "weighted"]
Initial = Literal["uniform", "sqrt", "proportional", "shrunk"]


class TrainConfig(Section):
    """Local training at a site."""

    warmup_rounds: Annotated[int, Field(ge=0)] = Field(8, description="rounds of stage 1: encoders + shared fusion")
    routing_rounds: Annotated[int, Field(ge=0)] = Field(4, description="rounds of stage 2: frozen encoders, Φ_k")
    local_steps: Count = Field(20, description="optimiser steps per site and round")
    batch: Annotated[int, Field(ge=0)] = Field(64, description="patients per step; 0: all patients of the site")
    sampling: Sampling = Field(
        "group",
        description="group: draw a group by λ, then a patient; weighted: draw patients uniformly, weight n·λ_k/n_k",
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="optimiser of the local steps")
    lr: Positive = Field(5e-4, description="learning rate of stage 1")
    routing_lr: Positive = Field(1e-4, description="learning rate of stage 2")
    residual_rate: Positive = Field(
        5.0, description="learning rate of Φ_k, in units of routing-lr; the paper uses one rate: 1"
    )
    shrink: NonNegative = Field(
        0.0, description="c of the decay c/n_k of a group's own part of the router, stronger for fewer patients"
    )
    anchor: NonNegative = Field(
        0.0,
        description="decay of encoders towards their common initial values, so that they stay similar",
    )
    weight_decay: NonNegative = Field(0.3, description="decoupled weight decay (adamw) or L2 (sgd)")
    schedule: Literal["constant", "step", "cosine"] = Field(
        "cosine", description="learning rate over the rounds of a stage"
    )
    step_rounds: Count = Field(5, description="schedule 'step': rounds between drops")
    step_factor: Positive = Field(0.1, description="schedule 'step': factor of a drop")
    focal_gamma: NonNegative = Field(2.0, description="focusing parameter of the focal loss")
    measure_patients: Annotated[int, Field(ge=0)] = Field(
        0,
        description="rounds that train encoders: patients of each group whom a site measures, of those it trains on "
        "and of those it validates on (docs/methods.md); 0: all",
    )
    select: Literal["last", "overall", "tail-patients", "mean-tail", "worst-group"] = Field(
        "last",
        description="the run's model: of the last round, or of the best by this measure on validation patients",
    )
    select_score: str = Field(
        "log_loss", description="score of that measure, by its name in the tables of a run: auroc, brier, c_index, …"
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        0, description="end after this many rounds of the last stage without a better model; 0: never"
    )
    ranking: NonNegative = Field(
        0.0,
        description="factor of the More-vs-Fewer loss: fewer modalities must not be better than all of a patient's",
    )

    rich_rounds: Annotated[int, Field(ge=0)] = Field(
        0, description="rounds at the beginning that train only on patients with many modalities"
    )
    rich_modalities: Annotated[int, Field(ge=0, le=MAX_MODALITIES)] = Field(
        0, description="modalities of these patients, at least; 0: the most that any patient has"
    )

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if self.warmup_rounds + self.routing_rounds == 0:
            raise ValueError("warmup-rounds and routing-rounds are both 0: nothing would be trained")
        if self.rich_rounds > self.rounds:
            raise ValueError(f"rich-rounds {self.rich_rounds} are more than the {self.rounds} rounds of both stages")
        if self.measure_patients == 1:
            raise ValueError("measure-patients 1: one patient shows no spread; take 2 or more, or 0 for all")
        if self.patience and self.select == "last":
            raise ValueError(f"patience {self.patience} needs a measure: set train.select")
        return self

    @property
    def rounds(self) -> int:
        """Rounds of both stages."""
        return self.warmup_rounds + self.routing_rounds


class DroConfig(Section):
    """GroupDRO over modality combinations (algorithm §2, §4.6–4.8)."""

    gamma: NonNegative = Field(0.02, description="step of the exponentiated gradient, per local step")
    initial: Initial = Field(
        "proportional",
        description="λ₀ over the groups seen in training: 1/G (the paper), or in proportion to √n_k or to n_k; shrunk: "
        "uniform for groups with many patients, by size for groups with few",
    )
    prior: Positive = Field(50.0, description="initial 'shrunk': patients of a group half way between the two")
    risk: Literal["train", "validation"] = Field("train", description="patients on which R_k is computed")
    adjustment: NonNegative = Field(0.0, description="c of R_k + c/√n_k: increases the risk of rare groups")
    regret: bool = Field(
        False, description="use R_k − R*_k instead of R_k; R*_k is the lowest risk of group k so far in the run"
    )
    floor: Fraction = Field(0.0, description="no λ_k falls below this share of its initial value")
    max_log_odds_step: Positive = Field(
        5.0, description="largest change of ln(λ_j/λ_k) of two groups in one round, for any reported losses"
    )
