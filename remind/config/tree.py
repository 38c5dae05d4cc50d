"""`Config`: the whole tree, and what several sections must agree on."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from remind.config.data import DataConfig, SyntheticConfig
from remind.config.evaluation import EvaluationConfig
from remind.config.federation import FederationConfig
from remind.config.flat import flatten, problems
from remind.config.model import MethodConfig, ModelConfig
from remind.config.privacy import PrivacyConfig
from remind.config.run import RunSection, StartConfig
from remind.config.section import Scalar, Section
from remind.config.train import DroConfig, TrainConfig
from remind.errors import UserError, several
from remind.suggest import did_you_mean

SINKS = frozenset({"mlflow", "tensorboard"})


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
    privacy: PrivacyConfig = PrivacyConfig()

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
                f"train.select = {self.train.select!r} needs federation.participation = 1: otherwise each round "
                "would be evaluated on other patients"
            )
        if self.train.select != "last" and not self.data.validation:
            raise ValueError(f"train.select = {self.train.select!r} needs validation patients: data.validation is 0")
        return self

    @model_validator(mode="after")
    def _asks_whole_groups(self) -> Self:
        if self.federation.min_group_share and self.federation.participation < 1:
            raise ValueError(
                f"federation.min-group-share = {self.federation.min_group_share:g} needs federation.participation = 1: "
                "who is not asked cannot answer"
            )
        return self

    @model_validator(mode="after")
    def _can_sum_what_is_sent(self) -> Self:
        if self.federation.updates == "int8" and self.federation.secure_aggregation:
            raise ValueError(
                "federation.updates = 'int8' does not go with federation.secure-aggregation: masks are for numbers "
                "with one scale at all hospitals; set it to 'exact'"
            )
        return self

    @model_validator(mode="after")
    def _can_choose_a_blend(self) -> Self:
        if self.evaluation.choose_blend and not self.model.blend:
            raise ValueError("evaluation.choose-blend needs a share to train with: model.blend is 0")
        if self.evaluation.choose_blend and not self.data.validation:
            raise ValueError("evaluation.choose-blend needs validation patients: data.validation is 0")
        return self

    @model_validator(mode="after")
    def _keeps_what_was_pretrained(self) -> Self:
        if self.model.encoders.pretraining_rounds and self.federation.encoders == "shared":
            raise ValueError(
                f"model.encoders.pretraining-rounds = {self.model.encoders.pretraining_rounds}: with "
                "federation.encoders = 'shared' the first message replaces what a hospital's encoders have learned; "
                "set federation.encoders to 'local' or 'frozen', or pretraining-rounds to 0"
            )
        return self

    @model_validator(mode="after")
    def _keeps_its_guarantee(self) -> Self:
        if self.privacy.mode == "none":
            return self
        raw = {
            "model.encoders.alone": self.model.encoders.alone != "none",
            "model.linear": self.model.linear,
            "model.encoders.pretraining-rounds": self.model.encoders.pretraining_rounds > 0,
            "model.encoders.numbers": self.model.encoders.numbers != "standard",
        }
        problems = [f"{key} fits on patients without noise; leave it out" for key, used in raw.items() if used]
        released = {
            "train.select": self.train.select != "last",
            "evaluation.calibration": self.evaluation.calibration != "none",
            "evaluation.operating-point": bool(self.evaluation.operating_point),
            "evaluation.choose-blend": self.evaluation.choose_blend,
        }
        problems += [
            f"{key} needs scores of validation patients, which do not leave; set it to {value!r}"
            for (key, used), value in zip(released.items(), ("last", "none", "", False), strict=True)
            if used
        ]
        if self.model.prototypes:
            problems.append("model.prototypes: the pull of one patient on a prototype is not bounded; set it to 0")
        if self.train.measure_patients:
            problems.append("train.measure-patients: noise is for sums over all patients; set it to 0")
        if self.precision == "bfloat16":
            problems.append("precision: norms of gradients need float32; set it to 'float32'")
        if self.privacy.mode == "joint":
            problems += self._joint_problems()
        if problems:
            raise ValueError(f"privacy.mode = {self.privacy.mode!r} cannot be guaranteed: " + "; ".join(problems))
        return self

    def _joint_problems(self) -> list[str]:
        """List what does not go with noise that hospitals share: it hides a sum, and nothing that came before."""
        train, encoders = self.train, self.federation.encoders
        found = {
            "federation.secure-aggregation: shares of noise protect in the sum alone; set it to true": (
                not self.federation.secure_aggregation
            ),
            f"train.local-steps = {train.local_steps}: noise of the others does not hide what a hospital's second step "
            "learnt from its first; set it to 1, and train more rounds": train.local_steps != 1,
            "federation.encoders = 'local': an encoder that stays would be trained without noise; set it to 'shared' "
            "or 'frozen'": encoders == "local",
            "train.shrink, train.anchor: they are of local steps, of which there are none; set them to 0": (
                train.shrink > 0 or train.anchor > 0
            ),
        }
        return [text for text, holds in found.items() if holds]

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
        return dict(flatten(self.model_dump()))

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
            raise several(f"{source} is not valid", problems(error, cls().flat())) from None
