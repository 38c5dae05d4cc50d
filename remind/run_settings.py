"""All refusals of a run that need its settings, hospitals or cohort alone, so that they come before it begins.

`remind config` and every launch ask `require_settings`; a launch that knows how many hospitals take part asks
`require_hospitals`, and one that has the cohort `require_cohort`. The run itself asks again.
"""

from collections.abc import Collection

from remind.config import Config
from remind.data.cohort.schema import CohortSchema
from remind.errors import UserError
from remind.federation.richer import rich
from remind.methods import methods_of
from remind.secagg.limits import FEWEST
from remind.secure_settings import require_noise, require_summable
from remind.training.outcome_check import check_outcome
from remind.training.private.admission import require_given_scales


def require_settings(config: Config) -> None:
    """Refuse settings that no run can have.

    Raises
    ------
    UserError
        A method or an encoder is unknown, or settings exclude each other; with the reason and a remedy.
    """
    methods_of(config)
    require_summable(config)


def notes(config: Config) -> list[str]:
    """Return which settings the run does not use, for its other choices, each with the reason."""
    flat = config.flat()
    return [f"{key} = {flat[key]!r} is not used: {why}" for key, why in methods_of(config).rule.unused().items()]


def require_hospitals(config: Config, hospitals: int, more: str) -> None:
    """Refuse a run of too few hospitals, or of too many.

    Parameters
    ----------
    more
        How to get more of them, after "…; " with the number as ``{}``.

    Raises
    ------
    UserError
        With the number that the settings need.
    """
    methods = methods_of(config)
    if methods.rule.pooled and hospitals > 1:
        raise UserError(
            f"method.rule: pooled needs all patients at one site, and there are {hospitals}; "
            "start the simulation with `remind simulate` or `flwr run --num-clients`, which bring them together"
        )
    if config.federation.secure_aggregation and hospitals < FEWEST:
        raise UserError(
            f"federation.secure-aggregation: a sum is of {FEWEST} hospitals or more, and this run has {hospitals}: "
            f"{more.format(FEWEST)}"
        )
    require_noise(config, hospitals)
    if hospitals < (least := methods.aggregator.least):
        raise UserError(
            f"method.aggregator = {config.method.aggregator!r} needs {least} hospitals or more, and this run has "
            f"{hospitals}: {more.format(least)}, or take mean"
        )


def require_cohort(config: Config, schema: CohortSchema, groups: Collection[int]) -> None:
    """Refuse settings that do not fit the cohort.

    Parameters
    ----------
    groups
        Groups that some hospital trains on.

    Raises
    ------
    UserError
        With the setting and the remedy.
    """
    classes, asked = len(schema.classes), config.evaluation
    check_outcome(schema.predicts, config)
    if config.train.rich_rounds and not rich(config.train, groups):
        raise UserError(
            f"train.rich-modalities: no patient of the hospitals has {config.train.rich_modalities}; take fewer, or 0 "
            "for the most of any"
        )
    if classes > 2 and asked.calibration == "vector":
        raise UserError(f"evaluation.calibration: vector needs two classes, the cohort has {classes}; use temperature")
    if classes > 2 and asked.operating_point:
        raise UserError(f"evaluation.operating-point: needs two classes, the cohort has {classes}; leave it empty")
    if config.privacy.mode != "none":
        require_given_scales(schema, config)
