"""A hospital's own predictions: the model of a run, from the site's vault."""

from pathlib import Path

from remind.config import Config
from remind.data.cohort.cohort import Cohort
from remind.data.sites.hospitals import with_split
from remind.data.sites.sites import Site as Hospital
from remind.errors import UserError
from remind.metrics.calibration import CALIBRATION, read_calibration
from remind.prediction.bundle import Bundle, of_part
from remind.prediction.next_test import NextTest, held_out
from remind.prediction.predictor import Predictor
from remind.prediction.site_part import FILE
from remind.suggest import did_you_mean
from remind_client.cohort_cache import cached_cohort
from remind_client.site_config import SiteConfig
from remind_client.store.site_store import SiteStore

USED = "predicted"  # an empty file; its time is the last use of the model, which retention reads


def runs_with_model(site: SiteConfig) -> list[str]:
    """Return the runs whose finished model this site has, the newest first."""
    found = sorted(site.runs_folder.glob(f"run-*/{FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parent.name.removeprefix("run-") for path in found]


def site_bundle(site: SiteConfig, run: str = "", calibration: Path | None = None) -> Bundle:
    """Return the model of a run, the newest one by default.

    Parameters
    ----------
    run
        The run's id.
    calibration
        The ``calibration.json`` of the run, from the coordinator; None: the one beside the model, if there is one.

    Raises
    ------
    UserError
        The site has no model of the run, or the file was changed.
    """
    runs = runs_with_model(site)
    if run.removeprefix("run-") not in runs and (run or not runs):
        what = f"run {run}: this site has no model of this run" if run else "this site has no model of any run"
        hint = f"{did_you_mean(run, runs)}; there are: {', '.join(runs)}" if runs else ""
        raise UserError(f"{what}{hint}; a site stores the model when the coordinator examines it at the end of the run")
    folder = site.runs_folder / f"run-{run.removeprefix('run-') or runs[0]}"
    part = SiteStore(folder, site.open_vault()).model()
    (folder / USED).touch()
    if calibration is not None and not calibration.is_file():
        raise UserError(f"--calibration {calibration}: no such file; the coordinator has it in the run's results")
    return of_part(part, folder.name, read_calibration(calibration or folder / CALIBRATION))


def site_predictor(
    site: SiteConfig, run: str = "", calibration: Path | None = None, least: int = 30, device: str | None = None
) -> Predictor:
    """Return the predictor of this hospital; `site_bundle` says which model it uses."""
    bundle = site_bundle(site, run, calibration)
    return Predictor(bundle, bundle.sites[0], least=least, device=device or site.device)


def site_next_test(site: SiteConfig, predictor: Predictor) -> NextTest:
    """Return the `NextTest` with this hospital's held-out patients as reference patients.

    The patients are read at the first request, from the cohort that site.toml names, and are split as in the run. If
    the cohort has changed since, the split is another one, and some of these patients may have been training patients.
    """
    return NextTest(predictor, lambda name: held_out(own_patients(site, predictor.bundle.config)))


def own_patients(site: SiteConfig, config: Config) -> Cohort:
    """Return this hospital's patients, split as in a run of this config.

    Raises
    ------
    UserError
        The cohort that site.toml names cannot be read.
    """
    minimum = site.policy.minimum_patients
    own = Hospital(site.site, cached_cohort(site.path(site.cohort), site.memory()))
    return with_split(own, config.data, config.seed, minimum if minimum > 1 else 0).cohort
