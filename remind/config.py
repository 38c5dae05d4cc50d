"""The only config tree: frozen, without unknown fields, validated once where it enters the program.

Every field is also a run-config key of the Flower app (``train.local-steps`` for ``train.local_steps``), so that
``--run-config`` of ``flwr run`` and ``--set`` of ``remind simulate`` speak the same words. `simulation/pyproject.toml`
lists the defaults; a test keeps the two equal.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from remind.errors import UserError, several
from remind.suggest import did_you_mean

Scalar = str | int | float | bool
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Unit01 = Annotated[float, Field(ge=0, le=1)]
AtLeast1 = Annotated[float, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
RUN_ID = r"|[A-Za-z0-9][A-Za-z0-9._-]{0,63}"  # it names files and folders
OPERATING_POINT = re.compile(r"youden|(?P<what>sensitivity|specificity) >= (?P<share>0?\.\d*[1-9]\d*)")
SINKS = frozenset({"mlflow", "tensorboard"})


class Section(BaseModel):
    """Base of every section: frozen, extra="forbid", no silent conversion from text to numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class RunSection(Section):
    """Which run this is."""

    id: Annotated[str, Field(pattern=f"^({RUN_ID})$")] = Field(
        "",
        description="identity of the run, which a resume keeps: it names folders here and at the sites; "
        "empty: Flower's run number",
    )
    resume: bool = Field(
        False, description="go on from the last checkpoint in the results folder; set by the commands that resume"
    )


class DataConfig(Section):
    """The patients, and how they are divided into hospitals."""

    cohort: str = Field("synthetic", description="a cohort folder or its cohort.toml; or 'synthetic'")
    root: str = Field("", description="folder of the cohort's files, if cohort.toml is in another folder")
    sites: Literal["auto", "column", "dirichlet"] = Field(
        "auto", description="hospitals from the cohort's site column, or drawn; auto: the column if there is one"
    )
    alpha: Positive = Field(
        0.5, description="Dirichlet concentration over groups: smaller values give more skewed mixes"
    )
    rules: str = Field("", description="what hospitals lack, e.g. '3: no imaging; 2: only clinical, labs'")
    pooled: Annotated[int, Field(ge=0)] = Field(
        0, description="for method.rule='pooled': number of hospitals whose patients are pooled; set by --num-clients"
    )
    validation: Fraction = Field(0.1, description="share of each site's patients held out for validation")
    test: Fraction = Field(0.2, description="share of each site's patients held out for the final test")

    min_evaluated: Annotated[int, Field(ge=0)] = Field(
        0,
        description="a group gets at least so many test, and validation, patients at a site where it has enough; "
        "a hospital takes its policy's minimum if that is more",
    )

    @model_validator(mode="after")
    def _leaves_training_patients(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} + test {self.test} leave no training patients")
        return self


class SyntheticConfig(Section):
    """The built-in cohort, used where data.cohort = 'synthetic'."""

    patients: Count = Field(4000, description="number of patients")
    law: Literal["fprm", "embed", "mimic-iv", "independent"] = Field(
        "fprm", description="how combinations are distributed: one of the paper's cohorts, or Pr(g_k) of algorithm §1"
    )
    missing: str = Field("0.1, 0.4, 0.6, 0.2", description="law 'independent': Pr(modality i is missing), one each")
    interaction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.7, description="share of the label's signal in cross-modal products whose signs differ per group"
    )
    noise: NonNegative = Field(0.3, description="standard deviation of the label noise, in units of the signal's")
    kinds: str = Field(
        "", description="a kind per modality, such as 'image, table, text, codes'; empty: M2 a series, the rest tables"
    )
    size: Annotated[int, Field(ge=8, le=512)] = Field(32, description="pixels along a side of images, volumes, videos")


class EncoderConfig(Section):
    """The encoder of each kind of modality, and the settings of the usual encoders of pictures, notes and codes."""

    choice: str = Field(
        "",
        description="encoders that are not the usual ones, by kind: 'table: mine(depth = 2); series: other'",
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
        description="what a hospital knows alone, with which the common model begins: how common each class is there "
        "(shares); besides, cross-fitted scores of its own models of all tables, series and codes: boosted trees, "
        "logistic regression, or both",
    )
    buckets: Count = Field(8192, description="rows of the embedding of words and codes; more of them are hashed")
    augment: Literal["none", "light"] = Field(
        "light", description="augmentation of training images while encoders train"
    )


class MethodConfig(Section):
    """Fusion model, objective and federated rule; `remind methods` lists the choices and their options."""

    fusion: str = Field("remind", description="fusion model, perhaps with options: 'flexmoe(experts = 8)'")
    objective: str = Field("groupdro", description="objective to minimise: 'groupdro', 'erm', 'cvar(alpha = 0.1)'")
    rule: str = Field("fedremind", description="federated rule: 'fedremind', 'lg', 'fedprox(mu = 0.1)', 'local'")


class ModelConfig(Section):
    """The REMIND model (algorithm §2). Letters: D width, E experts, S slots per expert."""

    width: Count = Field(64, description="D")
    experts: Count = Field(16, description="E")
    slots: Count = Field(1, description="S")
    heads: Count = Field(4, description="attention heads")
    expansion: Count = Field(4, description="hidden width of an expert, in units of D")
    blocks: Count = Field(1, description="pre-norm blocks")
    tokens: Count = Field(16, description="largest number of tokens of one modality")
    dropout: Fraction = Field(0.2, description="dropout of tokens, attention and expert outputs in training")
    hide: Fraction = Field(0.2, description="share of table cells and of observations hidden in training")
    router: Literal["cosine", "raw"] = Field("cosine", description="router logits: s·cos(x, φ), or x·φ")
    router_scale: Positive = Field(1.0, description="initial s of cosine logits, in units of √D")
    projection: bool = Field(
        False, description="a linear map per modality on top of its encoder, which all hospitals share"
    )
    linear: bool = Field(
        False,
        description="beside the fusion model a linear one of the numbers of all tables, series and codes, standardised "
        "at each hospital, which all hospitals share",
    )
    gate: Literal["always", "entropy", "kl", "never"] = Field("entropy", description="when Φ_k is used")
    threshold: NonNegative = Field(0.8, description="ξ: gate opens at entropy > ξ·ln E (kl: at KL < ξ)")
    encoders: EncoderConfig = EncoderConfig()

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} must divide width {self.width}")
        return self

    @property
    def stays(self) -> bool:
        """Whether a hospital keeps what the model cannot do without: models of its own, or the scale of its numbers."""
        return self.encoders.alone != "none" or self.linear


class TrainConfig(Section):
    """Local training at a site."""

    warmup_rounds: Annotated[int, Field(ge=0)] = Field(8, description="rounds of stage 1: encoders + shared fusion")
    routing_rounds: Annotated[int, Field(ge=0)] = Field(4, description="rounds of stage 2: frozen encoders, Φ_k")
    local_steps: Count = Field(20, description="optimiser steps per site and round")
    batch: Annotated[int, Field(ge=0)] = Field(64, description="patients per step; 0: all patients of the site")
    sampling: Literal["group", "weighted"] = Field(
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
        0.0, description="c of the decay c/n_k of a group's own part of the router: the fewer patients, the nearer to 0"
    )
    anchor: NonNegative = Field(
        0.0, description="decay of encoders towards their common initial values, so that those of hospitals stay alike"
    )
    weight_decay: NonNegative = Field(0.3, description="decoupled weight decay (adamw) or L2 (sgd)")
    schedule: Literal["constant", "step", "cosine"] = Field(
        "cosine", description="learning rate over the rounds of a stage"
    )
    step_rounds: Count = Field(5, description="schedule 'step': rounds between drops")
    step_factor: Positive = Field(0.1, description="schedule 'step': factor of a drop")
    focal_gamma: NonNegative = Field(2.0, description="focusing parameter of the focal loss")
    select: Literal["last", "overall", "tail-patients", "mean-tail", "worst-group"] = Field(
        "last",
        description="the run's model: that of the last round, or of the best by this measure on validation patients",
    )
    select_score: Literal[
        "log_loss",
        "brier",
        "ece",
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "auroc",
        "auprc",
        "sensitivity",
        "net_benefit",
    ] = Field("log_loss", description="score of that measure")
    patience: Annotated[int, Field(ge=0)] = Field(
        0, description="rounds of the last stage without a better model after which a run ends; 0: none ends early"
    )
    ranking: NonNegative = Field(
        0.0,
        description="factor of the More-vs-Fewer loss: fewer modalities must not do better than all of a patient",
    )

    @model_validator(mode="after")
    def _trains(self) -> Self:
        if self.warmup_rounds + self.routing_rounds == 0:
            raise ValueError("warmup-rounds and routing-rounds are both 0: nothing would be trained")
        if self.patience and self.select == "last":
            raise ValueError(f"patience {self.patience} needs a measure of what is better: set train.select")
        return self

    @property
    def rounds(self) -> int:
        """Rounds of both stages."""
        return self.warmup_rounds + self.routing_rounds


class DroConfig(Section):
    """GroupDRO over modality combinations (algorithm §2, §4.6–4.8)."""

    gamma: NonNegative = Field(0.02, description="step of the exponentiated gradient, per local step")
    initial: Literal["uniform", "sqrt", "proportional", "shrunk"] = Field(
        "proportional",
        description="λ₀ over the groups seen in training: 1/G (the paper), or in proportion to √n_k or to n_k; shrunk: "
        "uniform for groups of many patients, by size for those of few",
    )
    prior: Positive = Field(50.0, description="initial 'shrunk': patients at which a group is half way between the two")
    risk: Literal["train", "validation"] = Field("train", description="patients on which R_k is computed")
    adjustment: NonNegative = Field(0.0, description="c of R_k + c/√n_k: increases the risk of rare groups")
    regret: bool = Field(
        False, description="use R_k − R*_k instead of R_k; R*_k is the lowest risk of group k so far in the run"
    )
    floor: Fraction = Field(0.0, description="no λ_k falls below this share of its initial value")
    max_log_odds_step: Positive = Field(
        5.0, description="largest change of ln(λ_j/λ_k) of two groups in one round, for any reported losses"
    )


class FederationConfig(Section):
    """What sites send, the limits of replies, and how long a round waits."""

    encoders: Literal["local", "frozen", "shared"] = Field(
        "local",
        description="local: trained at the site, never sent; frozen: left as initialised; shared: averaged by modality",
    )
    averaging: Fraction = Field(
        0.0,
        description="final model: the mean over the last stage's rounds, weighed by this decay; 0: the last",
    )
    min_sites: Annotated[int, Field(ge=0)] = Field(
        0,
        description="least number of valid replies of a run; 0: more than half of the enrolled (1 in a simulation)",
    )
    participation: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the connected sites that get a task, drawn in each round; never below min-sites"
    )
    quorum: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share of sites whose replies close a round")
    deadline: Positive = Field(600.0, description="seconds after which a round closes without the missing sites")
    retries: Annotated[int, Field(ge=0)] = Field(
        2, description="times that a round is done again if too few sites answered and others may come back"
    )
    checkpoints: Count = Field(
        2, description="rounds whose state coordinator and sites keep, so that a run that was killed goes on from there"
    )
    dtype: Literal["float32", "bfloat16", "float64"] = Field("float32", description="type of the sent tensors")
    max_update: Positive = Field(0.5, description="leave out an update with ‖update‖ > max-update · max(1, ‖sent‖)")
    max_update_ratio: AtLeast1 = Field(
        5.0,
        description="leave out an update that moves a block by more than this times the median of three sites or more, "
        "if by more than a tenth of max-update",
    )
    max_loss: Positive = Field(
        10.0, description="a patient's loss counts at most this times ln(classes) where a group's loss is reported"
    )
    max_patients: Count = Field(1_000_000, description="leave out a site that claims more training patients than this")
    max_patients_ratio: AtLeast1 = Field(
        100.0,
        description="leave out a site that claims more than this times the median of three sites or more",
    )


class StartConfig(Section):
    """A trained model that the run begins with, instead of a new one; hospitals train their encoders anew."""

    model: str = Field("", description="the folder of `remind export`, or of a run; empty: begin with a new model")
    shared: Literal["frozen", "head", "tuned"] = Field(
        "frozen",
        description="what of that model trains: nothing (its head and routers stay too), its last layer, or all of it",
    )
    rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="learning rate of what trains of it, in units of the run's"
    )
    anchor: NonNegative = Field(1.0, description="decay of what trains of it towards its values at the beginning")

    @model_validator(mode="after")
    def _has_a_model(self) -> Self:
        if not self.model and self != StartConfig.model_construct():
            raise ValueError("shared, rate and anchor are of the model to begin with: name it with start.model")
        return self


class EvaluationConfig(Section):
    """What is made of the trained model on validation patients, before test patients are looked at."""

    calibration: Literal["none", "temperature", "vector"] = Field(
        "temperature", description="of the probabilities: one temperature, or a slope and a bias; two classes only"
    )
    group_calibration: bool = Field(
        False, description="groups of 30 validation patients or more of each class get parameters of their own"
    )
    operating_point: str = Field(
        "", description="'youden', 'sensitivity >= 0.9' or 'specificity >= 0.9'; empty: the likeliest class is decided"
    )

    @model_validator(mode="after")
    def _knows_its_operating_point(self) -> Self:
        if self.operating_point and not OPERATING_POINT.fullmatch(self.operating_point):
            raise ValueError(
                f"operating-point: {self.operating_point!r} is none; write 'youden', 'sensitivity >= 0.9' or "
                "'specificity >= 0.9', the share between 0 and 1"
            )
        return self


class Config(Section):
    """A whole run."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="seed of all random numbers")
    results: str = Field(
        "", description="folder of this run's results; empty: a new one in ./results or ~/federated-remind/results"
    )
    sinks: str = Field("", description="also write numbers to: tensorboard, mlflow; comma-separated")
    device: str = Field("auto", description="auto | cpu | cuda | cuda:N")
    threads: Annotated[int, Field(ge=0)] = Field(1, description="CPU threads of torch at a site; 0: one per core")
    precision: Literal["auto", "float32", "bfloat16", "float64"] = Field(
        "auto",
        description="type of computation; bfloat16: autocast, float32 weights; auto: bfloat16 on a GPU, else float32",
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="torch.compile of the encoders' backbones; auto: on a GPU"
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        0, description="processes per site that read images in advance; 0: images are read when needed"
    )
    run: RunSection = RunSection()
    data: DataConfig = DataConfig()
    synthetic: SyntheticConfig = SyntheticConfig()
    method: MethodConfig = MethodConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    start: StartConfig = StartConfig()
    dro: DroConfig = DroConfig()
    federation: FederationConfig = FederationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _knows_its_sinks(self) -> Self:
        if unknown := self.sink_names - SINKS:
            hint = did_you_mean(min(unknown), SINKS)
            raise ValueError(
                f"sinks: there is no {', '.join(sorted(unknown))}{hint}; there are {', '.join(sorted(SINKS))}"
            )
        return self

    @model_validator(mode="after")
    def _can_select(self) -> Self:
        if self.train.select != "last" and self.federation.participation < 1:
            raise ValueError(
                f"train.select = {self.train.select!r} needs federation.participation = 1: else each round is judged "
                "on other patients"
            )
        if self.train.select != "last" and not self.data.validation:
            raise ValueError(f"train.select = {self.train.select!r} needs validation patients: data.validation is 0")
        return self

    @property
    def sink_names(self) -> frozenset[str]:
        """Return the names in `sinks`."""
        return frozenset(name.strip() for name in self.sinks.split(",") if name.strip())

    @property
    def begun(self) -> "Config":
        """Return the config with which the run began: a resumed run is the same run."""
        return self.model_copy(update={"run": self.run.model_copy(update={"resume": False})})

    def flat(self) -> dict[str, Scalar]:
        """Return every field by its run-config key (``train.local-steps``)."""
        return dict(_flatten(self.model_dump()))

    @classmethod
    def from_flat(cls, values: Mapping[str, Scalar], source: str = "run config") -> "Config":
        """Build the config from run-config keys; other fields keep their defaults.

        Raises
        ------
        UserError
            Naming every unknown key and every bad value, with what would be accepted.
        """
        nested: dict[str, Any] = {}
        for key, value in values.items():
            *path, last = key.replace("-", "_").split(".")
            node = nested
            for part in path:
                node = node.setdefault(part, {})
                if not isinstance(node, dict):
                    raise UserError(f"{source}: {key} and {part} are both given; {part} is a table")
            node[last] = value
        try:
            return cls.model_validate(nested)
        except ValidationError as error:
            raise several(f"{source} is not valid", _problems(error, cls().flat())) from None


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Scalar]]:
    pairs: list[tuple[str, Scalar]] = []
    for field, value in tree.items():
        key = prefix + field.replace("_", "-")
        pairs += _flatten(value, key + ".") if isinstance(value, dict) else [(key, value)]
    return pairs


def _problems(error: ValidationError, keys: Iterable[str]) -> list[str]:
    """Return one line per problem: key, value, expectation; `keys` are all valid keys."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]).replace("_", "-") or "config"
        if item["type"] == "extra_forbidden":
            lines.append(
                f"{key}: no such key{did_you_mean(key, keys)}; `remind config` lists all keys with their defaults"
            )
        else:
            seen = "" if isinstance(item["input"], dict) else f", not {item['input']!r}"
            choices = item.get("ctx", {}).get("expected", "") if item["type"] == "literal_error" else ""
            hint = did_you_mean(str(item["input"]), re.findall(r"'([^']*)'", str(choices)))
            lines.append(f"{key}: {item['msg'].removeprefix('Value error, ')}{seen}{hint}")
    return lines
