"""The runner of study `calibration`: one federation, with its test statistics raw and after each calibration."""

import time
from pathlib import Path

from remind.config.evaluation import CalibrationMethod
from remind.errors import UserError
from remind.metrics.calibration_fit import calibrated, fit
from remind.metrics.statistics import merge
from remind_studies.cells.cell import Cell, CellResult, Outcome
from remind_studies.cells.patients import hospitals
from remind_studies.cells.train import Traces, evaluations, federate, result_of

RAW = "raw"
METHODS: tuple[CalibrationMethod, ...] = ("temperature", "vector")


def run(cell: Cell, folder: Path) -> CellResult:
    """Train, fit each calibration on the validation patients of all hospitals, and apply it to the test patients.

    Raises
    ------
    UserError
        Nothing can be fitted.
    """
    began = time.monotonic()
    config, patients, traces = cell.config, hospitals(cell), Traces()
    result = federate(config, patients, folder, [traces]).result
    outcomes = [Outcome(name=RAW, test=evaluations(result.test), validation=evaluations(result.validation))]
    facts = {}
    for method in METHODS:
        found = fit(merge(result.validation.values()), result.schema.classes, method, round_=result.round)
        if found.reason:
            raise UserError(f"calibration: {found.reason}")
        after = (
            {site: calibrated(own, found) for site, own in part.items()} for part in (result.test, result.validation)
        )
        outcomes.append(
            Outcome(name=method, **{p: evaluations(s) for p, s in zip(("test", "validation"), after, strict=True)})
        )
        facts[f"slope of the log-odds, {method}"] = found.scaling.weights[1]
    found_facts = {"facts": facts | {"validation patients to fit on": float(found.patients)}}
    return result_of(cell, patients, outcomes, traces, began).model_copy(update=found_facts)
