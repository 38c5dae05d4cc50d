"""The ``[policy]`` section of site.toml."""

import hashlib
from datetime import datetime, tzinfo
from fnmatch import fnmatchcase
from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from remind.config import Config
from remind.privacy.threshold import MIN_COUNT
from remind_client.policy.hours import Window
from remind_client.policy.privacy import PrivacyPolicy

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
BACKBONES = ("model.encoders.image", "model.encoders.volume")
MODEL_SETTINGS = tuple(f"model.encoders.{name}" for name in ("image-weights", "volume-weights", "text", "text-weights"))
# Settings of the coordinator's folders, or the site's own to make.
NO_MATTER = frozenset(
    {
        "results",
        "sinks",
        "device",
        "threads",
        "workers",
        "run.id",
        "run.resume",
        "federation.checkpoints",
        "federation.retries",
    }
)


def _zone(name: str) -> str:
    if name:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{name!r} is no time zone; write e.g. 'Europe/Zurich'") from None
    return name


def _window(text: str) -> str:
    Window.parse(text)
    return text


class Policy(BaseModel):
    """What this hospital allows. An empty list of hashes or fingerprints means no restriction."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    runs: tuple[str, ...] = Field(("federated-remind/*",), description="apps (publisher/name) that may run; * matches")
    configurations: tuple[Sha256, ...] = Field((), description="run configs that may run, by fingerprint; empty: any")
    approval: bool = Field(False, description="every run config must be approved here first: remind-site approve")
    bundles: tuple[Sha256, ...] = Field((), description="bundles that may run, by SHA-256; empty: any without code")
    code_bundles: tuple[Sha256, ...] = Field((), description="bundles that may bring code, by SHA-256")
    minimum_patients: Annotated[int, Field(ge=1)] = Field(MIN_COUNT, description="groups below this are never reported")
    minimum_batch: Annotated[int, Field(ge=1)] = Field(16, description="a run with smaller batches is refused")
    minimum_steps: Annotated[int, Field(ge=1)] = Field(2, description="a run with fewer local steps is refused")
    optimizers: tuple[str, ...] = Field(
        ("adamw",), description="optimisers a run may use; one step of sgd sends the plain gradient"
    )
    maximum_learning_rate: Annotated[float, Field(gt=0)] = Field(0.1, description="a run with a larger one is refused")
    rounds_per_run: Annotated[int, Field(ge=1)] = Field(
        500, description="training rounds of one run, however often it asks for each"
    )
    examinations_per_run: Annotated[int, Field(ge=1)] = Field(10, description="examinations of models in one run")
    rounds_per_day: Annotated[int, Field(ge=1)] | None = Field(None, description="training rounds a day; absent: any")
    hours: tuple[Annotated[str, AfterValidator(_window)], ...] = Field((), description="when to work; empty: always")
    timezone: Annotated[str, AfterValidator(_zone)] = Field("", description="of hours and days; empty: this machine's")
    tensors: tuple[str, ...] = Field(("shared", "group:*"), description="blocks of tensors that may leave; * matches")
    models: tuple[str, ...] = Field(
        ("pretrained", "random", "words"), description="weights and text models a run may name; * matches"
    )
    share_name: bool = Field(
        False, description="a model card and other things that the coordinator gives away may name this hospital"
    )
    share_encoders: bool = Field(
        False, description="remind-site export may include this hospital's encoders, for others to begin with"
    )
    privacy: PrivacyPolicy = PrivacyPolicy()

    @model_validator(mode="after")
    def _code_is_listed(self) -> Self:
        if self.bundles and (strangers := set(self.code_bundles) - set(self.bundles)):
            raise ValueError(
                f"code_bundles: {sorted(strangers)[0]} is not in bundles, so it can never run; add it there"
            )
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the policy in force."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def zone(self) -> tzinfo | None:
        """Time zone; None: this machine's."""
        return ZoneInfo(self.timezone) if self.timezone else None

    def run_allowed(self, app: str) -> bool:
        """Return whether an app of this name may run."""
        return any(fnmatchcase(app, pattern) for pattern in self.runs)

    def training_problems(self, config: Config) -> list[str]:
        """List why a run may not train with these settings; empty if it may. Batch 0 means all of the site's patients.

        Limits on steps are for what a plain gradient tells. Where hospitals share the noise, the site takes no steps:
        a limit on ε takes their place.
        """
        train = config.train
        if config.privacy.mode == "joint" and self.privacy.bounds_runs:
            return [f"{train.rounds} rounds; the most is {self.rounds_per_run}"] * (train.rounds > self.rounds_per_run)
        rate = max(train.lr, train.routing_lr, train.routing_lr * train.residual_rate)
        wrong = {
            f"train.batch = {train.batch}; the least is {self.minimum_batch}": 0 < train.batch < self.minimum_batch,
            f"train.local-steps = {train.local_steps}; the least is {self.minimum_steps}": train.local_steps
            < self.minimum_steps,
            f"train.optimizer = {train.optimizer}; allowed: {', '.join(self.optimizers)}": train.optimizer
            not in self.optimizers,
            f"a learning rate of {rate:g}; the most is {self.maximum_learning_rate:g}": rate
            > self.maximum_learning_rate,
            f"{train.rounds} rounds; the most is {self.rounds_per_run}": train.rounds > self.rounds_per_run,
        }
        return [problem for problem, holds in wrong.items() if holds]

    def block_allowed(self, block: str) -> bool:
        """Return whether tensors of this block may leave."""
        return any(fnmatchcase(block, pattern) for pattern in self.tensors)

    def model_allowed(self, name: str) -> bool:
        """Return whether a run may name these weights or this text model.

        A name can refer to a local file or to a download.
        """
        return any(fnmatchcase(name, pattern) for pattern in self.models)

    def open_at(self, moment: datetime) -> bool:
        """Return whether a moment (with a time zone) lies in the hours of operation."""
        local = moment.astimezone(self.zone)
        return not self.hours or any(Window.parse(text).holds(local) for text in self.hours)


def fingerprint(config: Config) -> str:
    """Return the SHA-256 of a run config, independent of its order, without the settings in `NO_MATTER`."""
    matters = {"federation.retries"} if config.privacy.mode == "joint" else set()  # the noise of a step follows from it
    settings = {name: value for name, value in config.flat().items() if name not in NO_MATTER - matters}
    text = "\n".join(f"{name}={value!r}" for name, value in sorted(settings.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def named_models(config: Config) -> dict[str, str]:
    """Return the settings of a run that name weights or a text model, with their values.

    The plain name of a backbone does not count: its code is installed here. A name with a scheme or a path does (timm
    fetches ``hf-hub:…``, and reads ``local-dir:…``).
    """
    flat = config.flat()
    elsewhere = {name: str(flat[name]) for name in BACKBONES if any(c in str(flat[name]) for c in ":/\\")}
    return {name: str(flat[name]) for name in MODEL_SETTINGS} | elsewhere
