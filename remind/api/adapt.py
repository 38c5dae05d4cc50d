"""Adapt a trained model to a new hospital, in this process."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from remind.config import Scalar

if TYPE_CHECKING:
    from remind.data.cohort.cohort import Cohort
    from remind.prediction.predictor import Predictor

ADAPT = "remind_client.models.adapt_into:adapt_into"  # a reference: the library imports no hospital


def adapt(
    model: str | Path,
    cohort: "Cohort | str | Path",
    *,
    out: str | Path,
    site: str = "hospital",
    encoders_from: str | Path | None = None,
    device: str = "auto",
    **choices: Scalar | None,
) -> "Predictor":
    """Train a hospital's encoders for a trained model, and return the predictor of the result.

    Parameters
    ----------
    model
        The folder of `remind export`, or of a run.
    cohort
        The hospital's patients, with labels: a `Cohort`, or a cohort folder.
    out
        A new folder for the adapted model, like that of a run: `remind.load` reads it.
    site
        The hospital's name.
    encoders_from
        A folder with encoders that another hospital published, as initial values.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    choices
        ``shared`` ("frozen", "head", "tuned"), ``rate``, ``anchor``, ``rounds``, ``routing_rounds``, ``patience``,
        ``lr``, ``validation``, ``test``, ``seed``: see `remind.adaptation.settings.Choices`.

    Raises
    ------
    UserError
        The model does not fit the patients, they are too few, a choice is not valid, or `out` exists already.
    """
    from remind.prediction.predictor import load

    module, _, name = ADAPT.partition(":")
    given = None if encoders_from is None else Path(encoders_from)
    getattr(import_module(module), name)(Path(model), cohort, Path(out), site, choices, given, device)
    return load(out, site)
