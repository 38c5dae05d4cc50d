"""Reference patients for `next_test`: from the run's own cohort, or from another one."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from remind.data.cohort.cohort import Cohort, concatenate
from remind.data.sites.hospitals import virtual_hospitals
from remind.errors import UserError
from remind.prediction.bundle import Bundle
from remind.prediction.next_test import Reference, held_out
from remind.prediction.predictor import Predictor

CONFIG = "config.json"  # of a run's results
OTHERWISE = "name a cohort of reference patients with --reference"


def patients_of_run(bundle: Bundle, hospitals: int) -> Mapping[str, Cohort]:
    """Return the patients of a simulation, by hospital, with the split that they had in the run.

    Raises
    ------
    UserError
        The patients are not on this machine, or have changed since the run.
    """
    config = bundle.config
    found = virtual_hospitals(config.data, config.synthetic, config.seed, hospitals)
    if any(site.cohort.schema.fingerprint != bundle.schema.fingerprint for site in found):
        raise UserError("the cohort has changed since the run")
    return {site.name: site.cohort for site in found}


def of_run(folder: Path, bundle: Bundle) -> Reference:
    """Return the patients of a simulation that its model was not trained on.

    Raises
    ------
    UserError
        The patients are not on this machine: an exported folder and a consortium have none.
    """
    try:
        sites = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["sites"]
    except (OSError, ValueError, KeyError):
        raise UserError(f"{folder}: does not say which patients it was trained on; {OTHERWISE}") from None
    try:
        patients = patients_of_run(bundle, len(sites))
    except UserError as error:
        raise UserError(f"{folder}: the run's own patients cannot be used: {error}; {OTHERWISE}") from None
    return of_hospitals({name: held_out(cohort) for name, cohort in patients.items()})


def of_cohort(predictor: Predictor, path: str, root: str = "") -> Reference:
    """Return the patients of a cohort folder, by the hospital of the site column. Without one, each hospital gets all.

    Labels are not needed. Patients that cannot be read are left out.

    Raises
    ------
    UserError
        The cohort does not fit the model, or no patient can be read.
    """
    chunks = list(predictor.open(path, root).chunks())
    whole = concatenate(
        [chunk.cohort.take(np.setdiff1d(np.arange(len(chunk.cohort)), list(chunk.problems))) for chunk in chunks]
    )
    if not len(whole):
        first = next((text for chunk in chunks for text in chunk.problems.values()), "there are none")
        raise UserError(f"--reference {path}: no patient can be read; the first: {first}")
    if whole.site_N is None or not set(whole.site_N.tolist()) & set(predictor.bundle.sites):
        return lambda site: whole
    return of_hospitals({name: whole.take(whole.site_N == name) for name in np.unique(whole.site_N).tolist()})


def of_hospitals(patients: Mapping[str, Cohort]) -> Reference:
    """Return the patients of each hospital; of all hospitals for a model that needs no hospital's encoders."""

    def found(site: str) -> Cohort:
        if not site:
            return concatenate(list(patients.values()))
        if site not in patients:
            raise UserError(f"hospital {site!r}: has no reference patients; {OTHERWISE}")
        return patients[site]

    return found
