"""Helpers of studies about privacy: the modes that there are, and their settings."""

from typing import get_args

from remind.config import Config, PrivacyConfig, Scalar

NONE = "none"
# What a guarantee needs of a run besides its mode, and what a mode needs that another does not.
NEEDED: dict[str, Scalar] = {"evaluation.calibration": "none"}
OF_MODE: dict[str, dict[str, Scalar]] = {
    "joint": {  # a round is one step, so that there must be many
        "federation.secure-aggregation": True,
        "federation.encoders": "shared",
        "train.local-steps": 1,
        "train.warmup-rounds": 40,
        "train.routing-rounds": 20,
        "train.shrink": 0.0,
        "train.anchor": 0.0,
    },
}


FEWEST = {"joint": 3}  # hospitals that a mode needs


def modes(hospitals: int) -> tuple[str, ...]:
    """Return the modes that give so many hospitals a guarantee, as the config knows them."""
    known = get_args(PrivacyConfig.model_fields["mode"].annotation)
    return tuple(mode for mode in known if mode != NONE and hospitals >= FEWEST.get(mode, 1))


def unprotected() -> dict[str, Scalar]:
    """Return the settings of a run without a guarantee, also where those of all runs set one."""
    return {key: value for key, value in Config().flat().items() if key.startswith("privacy.")}


def guaranteed(mode: str, epsilon: float) -> dict[str, Scalar]:
    """Return the settings of a run that gives this guarantee."""
    return {**NEEDED, **OF_MODE.get(mode, {}), "privacy.mode": mode, "privacy.epsilon": epsilon}
