"""Helpers of studies about privacy: the modes that there are, and their settings."""

from typing import get_args

from remind.config import Config, PrivacyConfig, Scalar

NONE = "none"
# What a guarantee needs of a run besides its mode, and what a mode needs that another does not.
NEEDED: dict[str, Scalar] = {"evaluation.calibration": "none"}
OF_MODE: dict[str, dict[str, Scalar]] = {}


def modes() -> tuple[str, ...]:
    """Return the modes that give a guarantee, as the config knows them."""
    return tuple(mode for mode in get_args(PrivacyConfig.model_fields["mode"].annotation) if mode != NONE)


def unprotected() -> dict[str, Scalar]:
    """Return the settings of a run without a guarantee, also where those of all runs set one."""
    return {key: value for key, value in Config().flat().items() if key.startswith("privacy.")}


def guaranteed(mode: str, epsilon: float) -> dict[str, Scalar]:
    """Return the settings of a run that gives this guarantee."""
    return {**NEEDED, **OF_MODE.get(mode, {}), "privacy.mode": mode, "privacy.epsilon": epsilon}
