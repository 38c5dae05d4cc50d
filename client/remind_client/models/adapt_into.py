"""`remind.adapt`: adapt a model and write a folder like that of a run, for notebooks and simulations."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from remind.adaptation.alone import Adapted
from remind.adaptation.settings import choose
from remind.adaptation.start import read_start
from remind.config import Scalar
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.read import read_cohort
from remind.files import write_whole
from remind.metrics.calibration import CALIBRATION
from remind.model_file import save_model
from remind.prediction.bundle import MODEL, SITES, require_new_folder
from remind_client.models.adapt import encoders_of
from remind_client.models.adaptation import Adaptation
from remind_client.store.site_store import SiteStore


def adapt_into(
    model: Path,
    cohort: Cohort | str | Path,
    out: Path,
    site: str,
    choices: Mapping[str, Scalar | None],
    encoders_from: Path | None,
    device: str,
) -> Path:
    """Adapt a model and write the folder; see `remind.api.adapt.adapt`.

    Raises
    ------
    UserError
        The model, the patients or the choices do not fit, or `out` exists already. Nothing is written then.
    """
    require_new_folder(out)
    start, given = read_start(model), None if encoders_from is None else encoders_of(encoders_from)
    patients = cohort if isinstance(cohort, Cohort) else read_cohort(cohort)
    plan = Adaptation.plan(site, start, patients, choose(**choices), device, given)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    partial.mkdir(mode=0o700)
    try:
        own = partial / SITES / "0"
        adapted = plan.run(SiteStore(own))
        if (own / CALIBRATION).is_file():
            os.replace(own / CALIBRATION, partial / CALIBRATION)
        _write_model(partial, plan, adapted)
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _write_model(folder: Path, plan: Adaptation, adapted: Adapted) -> None:
    trained = adapted.trained
    metadata = {
        "round": str(trained.round),
        "last": str(trained.rounds),
        "routing": json.dumps(adapted.routing),
        "seed": str(plan.config.seed),
        "weights": json.dumps({}),
        "counts": json.dumps({str(k): n for k, n in adapted.counts.items()}),
        "config": plan.config.model_dump_json(),
        "schema": json.dumps(plan.cohort.schema.describe()),
    }
    write_whole(folder / MODEL, lambda path: save_model(path, trained.model.tensors, metadata), private=True)
