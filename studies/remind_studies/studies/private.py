"""Helpers of studies about privacy: the modes that there are, and their settings."""

from typing import get_args

from remind.config import PrivacyConfig, Scalar
from remind.encoders import needs_fit
from remind.errors import several
from remind_studies.study import Request

NONE = "none"
# What a guarantee needs of a run besides its mode, and what a mode needs that another does not.
NEEDED: dict[str, Scalar] = {"evaluation.calibration": "none", "method.objective": "erm"}
OF_MODE: dict[str, dict[str, Scalar]] = {}


def modes() -> tuple[str, ...]:
    """Return the modes that give a guarantee, as the config knows them."""
    return tuple(mode for mode in get_args(PrivacyConfig.model_fields["mode"].annotation) if mode != NONE)


def guaranteed(mode: str, epsilon: float) -> dict[str, Scalar]:
    """Return the settings of a run that gives this guarantee."""
    return {**NEEDED, **OF_MODE.get(mode, {}), "privacy.mode": mode, "privacy.epsilon": epsilon}


def refuse_what_fits_on_patients(request: Request) -> None:
    """Check before anything runs that the cohort can be trained on under a guarantee.

    Raises
    ------
    UserError
        Numbers of a modality are standardised by a hospital's own patients.
    """
    model = request.config.model
    fitted = [m.name for m in request.cohort.schema.modalities if needs_fit(m, model)]
    if fitted:
        raise several(
            f"cohort {request.cohort.schema.name}: no run with privacy.mode can be made with it",
            [
                f"modality {name} is standardised by each hospital's own patients; for a table declare "
                'standardise = "given" with mean and std in cohort.toml, else leave the modality out'
                for name in fitted
            ],
        )
