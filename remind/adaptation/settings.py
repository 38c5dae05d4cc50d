"""Settings of an adaptation: the hospital's choices, the config of the run, and the split of the patients."""

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from remind.adaptation.start import Start
from remind.config import Config, Fraction, NonNegative, Scalar, Section, StartConfig
from remind.config.run import Trained
from remind.data.cohort.cohort import TRAIN, VALIDATION, Cohort
from remind.data.sites.split import draw_split, persons
from remind.errors import UserError, several
from remind.methods import methods_of
from remind.suggest import did_you_mean

FEWEST = 8  # minimum number of training patients
OF_A_CLASS = 2  # minimum number of training patients in each of two classes
CHOSEN_OF, UNSEEN = 12, 4  # rounds if validation patients choose the best one, and if there are too few of them
LAST: dict[str, Scalar] = {"train.select": "last", "train.patience": 0}
ENOUGH = 20  # validation patients needed to choose a round; fewer are trained on, if we draw the split


class Choices(Section):
    """The hospital's choices for an adaptation."""

    shared: Trained = StartConfig.model_fields["shared"].default
    rate: Annotated[float, Field(gt=0, le=1)] = StartConfig.model_fields["rate"].default
    anchor: NonNegative = StartConfig.model_fields["anchor"].default
    rounds: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="rounds that train encoders; None: 12 if validation patients choose the best one, else 4",
    )
    routing_rounds: Annotated[int, Field(ge=0)] = Field(0, description="rounds after these, with frozen encoders")
    patience: Annotated[int, Field(ge=0)] = Field(
        4, description="stop after this many rounds without a better model; 0: never"
    )
    lr: Annotated[float, Field(gt=0)] | None = Field(None, description="learning rate; None: the run's")
    validation: Fraction | None = Field(None, description="share of the patients; None: the run's")
    test: Fraction | None = Field(None, description="share of the patients; None: the run's")
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        None, description="None: the run's, so that all hospitals' encoders start equal"
    )

    @property
    def none(self) -> bool:
        """Whether no round is wanted: the initial model with untrained encoders."""
        return self.rounds == self.routing_rounds == 0


def choose(**given: Scalar | None) -> Choices:
    """Return the choices; None selects the default.

    Raises
    ------
    UserError
        A choice is not valid; the error names its option.
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
    """Return the config of a run with one hospital that begins with this model.

    The objective stays the same if it has one phase; others become one without a second start. One hospital needs no
    federated rule. Validation patients choose the round; `ready` changes that if there are too few of them.
    """
    config = start.config
    apart = int(start.routing and not start.routed(config))  # such methods use Φ_k only with frozen encoders
    one_phase = len(methods_of(config).objective.phases(config.train.rounds)) == 1
    train: dict[str, Scalar] = {
        "train.warmup-rounds": CHOSEN_OF if choices.rounds is None else choices.rounds,
        "train.routing-rounds": max(choices.routing_rounds, apart),
        "train.select": "overall",
        "train.select-score": "log_loss",
        "train.patience": choices.patience,
    }
    if choices.none:
        train["train.warmup-rounds"] = 1  # a config needs at least one; `Adaptation.run` trains none
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
        "federation.updates": "exact",
        "start.model": start.where,
        "start.shared": choices.shared,
        "start.rate": choices.rate,
        "start.anchor": choices.anchor,
        **{f"data.{part}": share for part, share in parts.items() if share is not None},
        **train,
    }
    return Config.from_flat(values, "adaptation")


def ready(cohort: Cohort, config: Config, choices: Choices) -> tuple[Cohort, Config]:
    """Return the patients with their split, and the config.

    Validation patients that are too few to choose a round become training patients, unless the cohort's own split
    names them. The config then has no early stopping and fewer rounds, because encoders soon overfit to few patients
    (docs/adapt.md).

    Raises
    ------
    UserError
        There are too few training patients, or all have the same class.
    """
    if cohort.split_N is None:
        cohort = replace(cohort, split_N=divide(cohort, config.seed, config.data.validation, config.data.test))
    assert cohort.split_N is not None
    require_training_patients(cohort)
    if _has_enough_validation(cohort, cohort.split_N):
        return cohort, config
    fewer: dict[str, Scalar] = {"train.warmup-rounds": UNSEEN} if choices.rounds is None else {}
    return cohort, Config.from_flat(config.flat() | LAST | fewer)


def divide(cohort: Cohort, seed: int, validation: float, test: float) -> NDArray[np.int8]:
    """Draw the split of each patient, (N,). Validation patients that are too few become training patients.

    Parameters
    ----------
    validation, test
        Shares of the patients.
    """
    split_N = draw_split(persons(cohort), seed, validation, test)
    if _has_enough_validation(cohort, split_N):
        return split_N
    return np.where(split_N == VALIDATION, TRAIN, split_N).astype(np.int8)


def _has_enough_validation(cohort: Cohort, split_N: NDArray[np.int8]) -> bool:
    held_N = split_N == VALIDATION
    return int(held_N.sum()) >= ENOUGH and len(np.unique(cohort.label_N[held_N])) > 1


def require_training_patients(cohort: Cohort) -> None:
    """Check that there are enough training patients.

    Raises
    ------
    UserError
        There are too few; the error has their number and the minimum.
    """
    training_N = np.asarray(cohort.split_N) == TRAIN
    number, classes = int(training_N.sum()), cohort.schema.classes
    of_C = np.bincount(cohort.label_N[training_N], minlength=len(classes))
    where = f"cohort {cohort.schema.name!r}"
    if number and np.count_nonzero(of_C) == 1:
        only = classes[int(of_C.argmax())]
        raise UserError(
            f"{where}: all {number} training patients are of class {only!r}, and training needs two classes; "
            "check the label, or adapt together with other hospitals (start.model of a run)"
        )
    if number < FEWEST or (of_C >= OF_A_CLASS).sum() < 2:
        shown = ", ".join(f"{name}: {n}" for name, n in zip(classes, of_C.tolist(), strict=True))
        raise UserError(
            f"{where}: {number} training patients ({shown}) are too few to adapt to: at least {FEWEST} are needed, "
            f"{OF_A_CLASS} of each of two classes; add patients, or hold out fewer (--test)"
        )
