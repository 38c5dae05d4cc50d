"""`method` and `model`: the methods, the encoders and the model."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from remind.config.section import Count, Fraction, NonNegative, Positive, Section

Gate = Literal["always", "entropy", "kl", "never"]
RouterLogits = Literal["cosine", "raw"]


class EncoderConfig(Section):
    """The encoder of each kind of modality, and the settings of the default encoders of pictures, notes and codes."""

    choice: str = Field(
        "",
        description="other encoders than the default ones, by kind: 'table: mine(depth = 2); series: other'",
    )
    image: str = Field("resnet10t", description="a timm backbone, such as vit_base_patch16_224 or resnet50")
    image_weights: str = Field("pretrained", description="pretrained | random | a file of weights")
    volume: str = Field("r3d_18", description="r3d_18 (torchvision), or resnet10 … resnet200 or vit (MONAI)")
    volume_weights: str = Field("pretrained", description="pretrained | random | a file of weights")
    text: str = Field("words", description="a transformers model by name or folder; words: a small built-in one")
    text_weights: str = Field("pretrained", description="pretrained | random; words always learns from scratch")
    text_length: Count = Field(512, description="longest note, in tokens; longer notes are truncated")
    table: Literal["patches", "features"] = Field(
        "patches", description="tokens of a table: linear in each run of columns; or attention over a token per column"
    )
    numbers: Literal["standard", "quantile"] = Field(
        "standard", description="numbers of tables: standardised, or by their quantiles among the training patients"
    )
    periodic: Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="learned sines and cosines of each number of a table, besides the number itself; 0: none"
    )
    series: Literal["items", "set"] = Field(
        "items", description="attention within each item; set: also over all observations, and each item's statistics"
    )
    alone: Literal["none", "shares", "trees", "linear", "both"] = Field(
        "none",
        description="a hospital's own models, whose scores are added to the logits: class shares at the hospital "
        "(shares); or also cross-fitted scores from all tables, series and codes by boosted trees (trees), "
        "logistic regression (linear), or both",
    )
    pretraining_rounds: Annotated[int, Field(ge=0)] = Field(
        0,
        description="before the first round, each hospital's encoders of tables and series learn without labels to "
        "tell hidden values, for this many rounds of train.local-steps; patients without a label count too",
    )
    buckets: Count = Field(8192, description="rows of the embedding of words and codes; more of them are hashed")
    augment: Literal["none", "light"] = Field(
        "light", description="augmentation of training images while encoders train"
    )


class MethodConfig(Section):
    """Fusion model, objective, federated rule and aggregator; `remind methods` lists the choices and their options."""

    fusion: str = Field("remind", description="fusion model, perhaps with options: 'flexmoe(experts = 8)'")
    objective: str = Field("groupdro", description="objective to minimise: 'groupdro', 'erm', 'cvar(alpha = 0.1)'")
    rule: str = Field("fedremind", description="federated rule: 'fedremind', 'lg', 'fedprox(mu = 0.1)', 'local'")
    aggregator: str = Field(
        "mean", description="how replies become one model, block by block: 'mean', 'median', 'trimmed_mean(cut = 1)'"
    )


class ModelConfig(Section):
    """The REMIND model (algorithm §2). Letters: D width, E experts, S slots per expert."""

    width: Count = Field(64, description="D")
    experts: Count = Field(16, description="E")
    merged: bool = Field(
        False,
        description="experts were merged (remind analyze --merge-experts, which sets it): each counts as often as the "
        "experts that it replaces",
    )
    slots: Count = Field(1, description="S")
    heads: Count = Field(4, description="attention heads")
    expansion: Count = Field(4, description="hidden width of an expert, in units of D")
    blocks: Count = Field(1, description="pre-norm blocks")
    tokens: Count = Field(16, description="largest number of tokens of one modality")
    dropout: Fraction = Field(0.2, description="dropout of tokens, attention and expert outputs in training")
    hide: Fraction = Field(0.2, description="share of table cells and of observations hidden in training")
    router: RouterLogits = Field("cosine", description="router logits: s·cos(x, φ), or x·φ")
    router_scale: Positive = Field(1.0, description="initial s of cosine logits, in units of √D")
    projection: bool = Field(
        False, description="a linear map per modality on top of its encoder, shared by all hospitals"
    )
    prototypes: NonNegative = Field(
        0.0,
        description="factor of a loss that draws the tokens of a class, in each modality, to a prototype which all "
        "hospitals share, so that local encoders stay alike; 0: none",
    )
    linear: bool = Field(
        False,
        description="add a linear model of the numbers of all tables, series and codes, standardised at each "
        "hospital; all hospitals share it",
    )
    blend: Fraction = Field(
        0.0,
        description="share of a hospital's own scores (encoders.alone) in the log-odds of a prediction; the common "
        "model then learns without them. 0: they are added from the start, and the common model learns what they lack",
    )
    baseline: Literal["common", "hospital"] = Field(
        "common",
        description="of survival: all hospitals have the same baseline hazards; hospital: each has its own, a number "
        "for each interval that is added to the logits of the hazards and stays at the hospital",
    )
    gate: Gate = Field("entropy", description="when Φ_k is used")
    threshold: NonNegative = Field(0.8, description="ξ: gate opens at entropy > ξ·ln E (kl: at KL < ξ)")
    encoders: EncoderConfig = EncoderConfig()

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} must divide width {self.width}")
        return self

    @model_validator(mode="after")
    def _blends_scores(self) -> Self:
        if self.blend and self.encoders.alone in ("none", "shares"):
            raise ValueError(
                f"blend {self.blend} needs a hospital's own scores: set model.encoders.alone to trees, linear or both"
            )
        return self

    @property
    def stays(self) -> bool:
        """Whether the model needs data that stay at each hospital: its own models, or the scale of its numbers."""
        return self.encoders.alone != "none" or self.linear
