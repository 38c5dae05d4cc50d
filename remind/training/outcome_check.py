"""Refuses settings that need classes where something else is predicted."""

from remind.config import Config
from remind.errors import UserError, several
from remind.fusion.base import registry as fusions
from remind.outcomes.base import Outcome


def check_outcome(outcome: Outcome, config: Config) -> None:
    """Check that a run's settings go with what its cohort's label is.

    Raises
    ------
    UserError
        Names every setting that needs classes, why, and what to choose.
    """
    train = config.train
    if train.select != "last" and not _is_score_of(train.select_score, outcome):
        from remind.metrics.scores import scores_of

        own = [name for name, score in scores_of(outcome.kind, outcome.parts).items() if score.comparable]
        raise UserError(
            f"train.select-score = {train.select_score!r}: there is no such score of {outcome.title}; "
            f"use one of {', '.join(own)}"
        )
    if config.model.baseline != "common" and outcome.kind != "survival":
        raise UserError(
            f"model.baseline = {config.model.baseline!r}: baseline hazards are of survival, and the label is "
            f"{outcome.describe()}; set it to 'common'"
        )
    if outcome.kind == "classes":
        return
    from remind.objectives.base import registry as objectives  # not where a model of classes predicts

    found = []
    for key, choice, registry in (
        ("fusion", config.method.fusion, fusions),
        ("objective", config.method.objective, objectives),
    ):
        method, _ = registry.choose(choice)
        if why := method.build.outcomes:
            others = [one.name for one in registry.methods() if not one.build.outcomes]
            found.append(f"method.{key} = {method.name!r}: {why}; choose one of {', '.join(sorted(others))}")
    asked = config.evaluation
    needs = {
        "model.encoders.alone": (config.model.encoders.alone != "none", "leave it at none"),
        "model.prototypes": (config.model.prototypes > 0, "leave it at 0"),
        "model.linear": (config.model.linear, "leave it at false"),
        "privacy.mode": (config.privacy.mode != "none", "leave it at none"),
        "federation.secure-aggregation": (config.federation.secure_aggregation, "leave it at false"),
        "evaluation.calibration = 'vector'": (asked.calibration == "vector", "leave it at temperature"),
        "evaluation.group-calibration": (asked.group_calibration, "leave it at false"),
        "evaluation.operating-point": (bool(asked.operating_point), "leave it empty"),
    }
    found += [f"{name}: only for classes; {remedy}" for name, (set_, remedy) in needs.items() if set_]
    if outcome.mask is not None:
        _check_mask(outcome, config)
    if found:
        what = f"the label is {outcome.describe()} (kind = {outcome.kind!r} in cohort.toml), and these settings need"
        raise several(f"{what} classes", found)


def _check_mask(outcome: Outcome, config: Config) -> None:
    """Refuse a fusion model that cannot steer a dense head."""
    method, _ = fusions.choose(config.method.fusion)
    if why := method.build.masks:
        able = sorted(one.name for one in fusions.methods() if not one.build.outcomes and not one.build.masks)
        raise UserError(
            f"method.fusion = {method.name!r} predicts no mask, which the label is ({outcome.describe()}): {why}; "
            f"choose one of {', '.join(able)}"
        )


def _is_score_of(name: str, outcome: Outcome) -> bool:
    from remind.metrics.scores import scores_of  # needs scipy, which prediction does without

    return name in scores_of(outcome.kind, outcome.parts)
