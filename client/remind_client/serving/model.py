"""The current model of the service: loaded once, and replaced by a newer model if that one can be loaded."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from remind.data.cohort.cohort import Cohort
from remind.data.cohort.schema import CohortSchema, difference
from remind.errors import UserError
from remind.outcomes.base import require
from remind.prediction.next_test import ESTIMATES, NextTest, NextTests
from remind.prediction.predictions import Predictions
from remind.prediction.predictor import LEAST, Predictor
from remind_client.serving.request import without_form
from remind_client.serving.source import Source, Stamp

log = logging.getLogger(__name__)
LOOK_EVERY = 5.0  # seconds between two checks for a new model


@dataclass(frozen=True)
class Served:
    """A loaded model.

    Attributes
    ----------
    predictor
        The predictor of the model.
    site
        The hospital whose encoders it uses; empty if it needs no hospital's encoders.
    moments
        Modality → column or item → mean and standard deviation among the training patients of this hospital.
    next_test
        Estimates what each missing modality would change, from patients of this hospital.
    """

    predictor: Predictor
    site: str
    moments: Mapping[str, Mapping[str, tuple[float, float]]]
    next_test: NextTest

    @property
    def schema(self) -> CohortSchema:
        """Classes and modalities."""
        return self.predictor.schema

    @property
    def about(self) -> dict[str, Any]:
        """Return the description of the model for callers."""
        bundle = self.predictor.bundle
        return {
            "site": self.site,
            "round": bundle.round,
            "cohort": self.schema.name,
            "fingerprint": self.schema.fingerprint,
            "classes": list(self.schema.classes),
            "modalities": list(self.schema.names),
            "calibrated": bundle.calibration is not None,
        }


def without_patients(predictor: Predictor) -> NextTest:
    """Return a `NextTest` that raises an error, for a service without reference patients."""

    def none(site: str) -> Cohort:
        raise UserError("next_test: this service has no reference patients")

    return NextTest(predictor, none)


@dataclass
class ModelKeeper:
    """Keeps the newest model of a source loaded.

    Attributes
    ----------
    source
        Where the model comes from.
    loaded
        Called with each newly loaded model.
    learns
        Returns the `NextTest` of a predictor.
    least, device
        As for `Predictor`.
    problem
        Why the newest model could not be loaded; empty if it is in use.
    """

    source: Source
    loaded: Callable[[Served], None] = lambda served: None
    learns: Callable[[Predictor], NextTest] = without_patients
    least: int = LEAST
    device: str = "auto"
    problem: str = ""
    served: Served | None = None
    _error: UserError | None = None
    _stamp: Stamp | None = None
    _looked: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def current(self, clock: Callable[[], float] = time.monotonic) -> Served:
        """Return the current model, after loading a newer one if there is one.

        Raises
        ------
        UserError
            There is none.
        """
        with self._lock:
            now = clock()
            if self.served is None or now - self._looked >= LOOK_EVERY:
                self._looked = now
                self._renew()
            if self.served is None:
                assert self._error is not None
                raise self._error
            return self.served

    def _renew(self) -> None:
        stamp = self.source.stamp()
        if self.served is not None and (stamp == self._stamp or stamp is None):
            return  # if the file was removed, the loaded model stays in use until a new one appears
        self._stamp = stamp
        try:
            served = self._load()
        except UserError as error:
            self.problem, self._error = str(error), error
            if self.served is not None:
                log.error("the new model is not used, the former one stays: %s", error)
            return
        self.served, self.problem = served, ""
        self.loaded(served)

    def _load(self) -> Served:
        bundle = self.source.read()
        require(bundle.schema.predicts, "remind-site serve", by_class=True)
        if strange := without_form(bundle.schema):
            raise UserError(
                f"{bundle.where}: the kind of modality {strange[0]} comes from another package and has no JSON form; "
                "use remind predict"
            )
        if self.served is not None and (lines := difference(self.served.schema, bundle.schema)):
            raise UserError(
                f"{bundle.where}: has another schema than the current model ({lines[0]}), and callers know that "
                "schema; restart the service to use this model"
            )
        site = self.source.site or (bundle.sites[0] if len(bundle.sites) == 1 else "")
        if not site and not bundle.serves_everybody:
            here = ", ".join(bundle.sites) or "none: encoders stay at the hospitals that took part in the run"
            raise UserError(f"{bundle.where}: name the hospital whose encoders to use with --site; available: {here}")
        predictor = Predictor(bundle, site or None, least=self.least, device=self.device)
        return Served(predictor, site, _moments(predictor, site), self.learns(predictor))


def _moments(predictor: Predictor, site: str) -> dict[str, dict[str, tuple[float, float]]]:
    if not site:
        return {}
    numbers = predictor.bundle.part(site).ranges.numbers
    return {
        modality: {column: (known.mean, known.std) for column, known in of.items() if known.std > 0}
        for modality, of in numbers.items()
    }


def answers(found: Predictions, tests: NextTests | None = None) -> list[dict[str, Any]]:
    """Return the answer for each patient, from the same tables that `remind predict` writes."""
    classes = found.schema.classes
    table = found.columns()
    after = None if tests is None else _by_patient(found, tests)
    rows = []
    for i in range(len(found)):
        row = {name: values[i] for name, values in table.items()}
        served = row["status"] == "ok"
        calibrated = {name: row[f"calibrated_{name}"] for name in classes}
        rows.append(
            {
                "id": row["patient_id"],
                "status": row["status"],
                "group": row["group"],
                "probabilities": {name: row[f"p_{name}"] for name in classes} if served else None,
                "calibrated": calibrated if served and None not in calibrated.values() else None,
                "decision": row["decision"],
                "train_n": row["train_n"] if served else None,
                "gate_open": row["gate_open"],
                "trusted": row["trusted"],
                "reasons": list(found.reasons_N[i]),
                "next_tests": None if after is None else after[i],
            }
        )
    return rows


def _by_patient(found: Predictions, tests: NextTests) -> list[list[dict[str, Any]]]:
    """Return the entries of each patient; `tests` has one entry per missing modality, in the patients' order."""
    table = tests.columns()
    entries = [
        {name: table[name][t] for name in ("test", "status", "n")}
        | {name: _estimate([table[name + end][t] for end in ("", "_low", "_high")]) for name in ESTIMATES}
        for t in range(len(tests))
    ]
    lacking = len(found.schema.names) - np.array([group.bit_count() for group in found.group_N.tolist()], dtype=int)
    ends = np.cumsum(np.where(found.served_N, lacking, 0)).tolist()
    return [entries[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _estimate(values: list[float | None]) -> dict[str, float | None] | None:
    return None if None in values else dict(zip(("mean", "low", "high"), values, strict=True))
