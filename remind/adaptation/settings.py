"""How a hospital adapts a trained model: its choices, the run's config that follows, and its patients' parts."""

from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from remind.adaptation.start import Start
from remind.config import Config, Fraction, NonNegative, Scalar, Section, StartConfig
from remind.data.cohort.cohort import TRAIN, VALIDATION, Cohort
from remind.data.sites.split import draw_split, persons
from remind.errors import UserError, several
from remind.methods import methods_of
from remind.suggest import did_you_mean

FEWEST = 8  # training patients
OF_A_CLASS = 2  # training patients of at least two classes
CHOSEN_OF, UNSEEN = 12, 4  # rounds where validation patients choose among them, and where nobody can
LAST: dict[str, Scalar] = {"train.select": "last", "train.patience": 0}
ENOUGH = 20  # validation patients that can tell when to stop; fewer are trained on, where the split is ours to draw


class Choices(Section):
    """What a hospital decides about an adaptation."""

    shared: Literal["frozen", "head", "tuned"] = StartConfig.model_fields["shared"].default
    rate: Annotated[float, Field(gt=0, le=1)] = StartConfig.model_fields["rate"].default
    anchor: NonNegative = StartConfig.model_fields["anchor"].default
    rounds: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="of encoders, with what else trains; None: 12 where validation patients choose among them, else 4",
    )
    routing_rounds: Annotated[int, Field(ge=0)] = Field(0, description="after them, with encoders frozen")
    patience: Annotated[int, Field(ge=0)] = Field(4, description="rounds without a better model; 0: none ends early")
    lr: Annotated[float, Field(gt=0)] | None = Field(None, description="learning rate; None: the run's")
    validation: Fraction | None = Field(None, description="share of the patients; None: the run's")
    test: Fraction | None = Field(None, description="share of the patients; None: the run's")
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        None, description="None: the run's, from which every hospital's encoders start alike"
    )

    @property
    def none(self) -> bool:
        """Whether no round is wanted: the given model with fresh encoders."""
        return self.rounds == self.routing_rounds == 0


def choose(**given: Scalar | None) -> Choices:
    """Return the choices; None: the default.

    Raises
    ------
    UserError
        Names what is not valid, by its option.
    """
    try:
        return Choices.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise several("these choices are not valid", [_problem(dict(item)) for item in error.errors()]) from None


def _problem(item: dict[str, Any]) -> str:
    option = "--" + str(item["loc"][0]).replace("_", "-")
    if item["type"] == "extra_forbidden":
        known = [name.replace("_", "-") for name in Choices.model_fields]
        return f"{option}: there is no such choice{did_you_mean(option[2:], known)}; there are: {', '.join(known)}"
    return f"{option}: {item['msg']}, not {item['input']!r}"


def adapted_config(start: Start, choices: Choices, device: str = "auto") -> Config:
    """Return the config of a run of one hospital that begins with this model.

    Its objective stays, where it has one phase: there is no second start, and no look at mistakes. One hospital needs
    no rule. The best round counts, on validation patients; `ready` takes that back where these are too few.
    """
    config = start.config
    apart = int(start.routing and not start.routed(config))  # such methods use Φ_k with frozen encoders alone
    one_phase = len(methods_of(config).objective.phases(config.train.rounds)) == 1
    train: dict[str, Scalar] = {
        "train.warmup-rounds": CHOSEN_OF if choices.rounds is None else choices.rounds,
        "train.routing-rounds": max(choices.routing_rounds, apart),
        "train.select": "overall",
        "train.select-score": "log_loss",
        "train.patience": choices.patience,
    }
    if choices.none:
        train["train.warmup-rounds"] = 1  # a run has one; `Adaptation.run` takes none
    if (config.data.validation if choices.validation is None else choices.validation) == 0:
        train |= LAST
    if choices.lr is not None:
        train["train.lr"] = choices.lr
    parts = {"validation": choices.validation, "test": choices.test}
    values = config.flat() | {
        "seed": config.seed if choices.seed is None else choices.seed,
        "device": device,
        "results": "",
        "sinks": "",
        "data.cohort": "",
        "data.root": "",
        "method.rule": "fedremind",
        "method.objective": config.method.objective if one_phase else "erm",
        "federation.participation": 1.0,
        "federation.averaging": 0.0,
        "federation.dtype": "float64" if config.precision == "float64" else "float32",
        "start.model": start.where,
        "start.shared": choices.shared,
        "start.rate": choices.rate,
        "start.anchor": choices.anchor,
        **{f"data.{part}": share for part, share in parts.items() if share is not None},
        **train,
    }
    return Config.from_flat(values, "adaptation")


def ready(cohort: Cohort, config: Config, choices: Choices) -> tuple[Cohort, Config]:
    """Return the patients with their split, and the config without early stopping where nothing can tell when.

    Validation patients that are too few to tell are trained on, unless the cohort's own split names them; encoders then
    train for fewer rounds: on few patients they soon learn by heart (docs/adapt.md).

    Raises
    ------
    UserError
        Too few patients are left to train on, or they are all of one class.
    """
    if cohort.split_N is None:
        cohort = replace(cohort, split_N=divide(cohort, config.seed, config.data.validation, config.data.test))
    assert cohort.split_N is not None
    refuse_what_teaches_nothing(cohort)
    if _tells(cohort, cohort.split_N):
        return cohort, config
    fewer: dict[str, Scalar] = {"train.warmup-rounds": UNSEEN} if choices.rounds is None else {}
    return cohort, Config.from_flat(config.flat() | LAST | fewer)


def divide(cohort: Cohort, seed: int, validation: float, test: float) -> NDArray[np.int8]:
    """Draw the split of each patient, (N,): validation patients are there where they are enough, or train.

    Parameters
    ----------
    validation, test
        Shares of the patients.
    """
    split_N = draw_split(persons(cohort), seed, validation, test)
    if _tells(cohort, split_N):
        return split_N
    return np.where(split_N == VALIDATION, TRAIN, split_N).astype(np.int8)


def _tells(cohort: Cohort, split_N: NDArray[np.int8]) -> bool:
    held_N = split_N == VALIDATION
    return int(held_N.sum()) >= ENOUGH and len(np.unique(cohort.label_N[held_N])) > 1


def refuse_what_teaches_nothing(cohort: Cohort) -> None:
    """Refuse a hospital with too few training patients.

    Raises
    ------
    UserError
        Names how many there are, and how many are needed.
    """
    training_N = np.asarray(cohort.split_N) == TRAIN
    number, classes = int(training_N.sum()), cohort.schema.classes
    of_C = np.bincount(cohort.label_N[training_N], minlength=len(classes))
    where = f"cohort {cohort.schema.name!r}"
    if number and np.count_nonzero(of_C) == 1:
        only = classes[int(of_C.argmax())]
        raise UserError(
            f"{where}: all {number} training patients are of class {only!r}: nothing can be learnt from them alone; "
            "check the label, or adapt together with other hospitals (start.model of a run)"
        )
    if number < FEWEST or (of_C >= OF_A_CLASS).sum() < 2:
        shown = ", ".join(f"{name}: {n}" for name, n in zip(classes, of_C.tolist(), strict=True))
        raise UserError(
            f"{where}: {number} training patients ({shown}) are too few to adapt to: at least {FEWEST} are needed, "
            f"{OF_A_CLASS} of each of two classes; add patients, or hold out fewer (--test)"
        )
