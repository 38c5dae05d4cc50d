"""Predict with the model of a run: cohorts in, one row per patient out.

Letters: N patients, C classes.
"""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.cohort import Cohort
from remind.data.cohort.frames import from_frames
from remind.data.cohort.new_patients import CHUNK, NewPatients, open_cohort
from remind.data.cohort.schema import CohortSchema, difference
from remind.data.cohort.verdicts import Memory
from remind.errors import UserError
from remind.metrics.calibration import Calibration
from remind.prediction.bundle import Bundle, read_bundle
from remind.prediction.hospitals import Hospitals
from remind.prediction.log_probabilities import log_probabilities
from remind.prediction.masks import MaskFolder
from remind.prediction.model import LoadedModel
from remind.prediction.predictions import SERVED, Predictions, join, objects, refused
from remind.prediction.ranges import Ranges, Units
from remind.prediction.reasons import reasons
from remind.prediction.site_part import SitePart
from remind.training.device import choose_device

if TYPE_CHECKING:
    import pandas as pd

Patients = str | Path | Mapping[str, Any]
LEAST = 30  # default: predictions for a combination with fewer training patients are flagged
NO_MODALITY = "has no modality: the model has no data of this patient"
UNCALIBRATED = "uncalibrated: this run has no calibration, so the probabilities are the model's raw ones"


class Predictor:
    """Predicts with a trained model.

    Parameters
    ----------
    bundle
        The model.
    site
        The hospital whose encoders are used. None: the hospital that the cohort's site column names for each patient,
        or the only hospital.
    least
        Predictions for a combination with fewer training patients than this are flagged.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Attributes
    ----------
    units
        Columns that may be in another unit than in the training data, judged by the predictions so far.

    Raises
    ------
    UserError
        The part of this hospital is not available, or the device does not exist.
    """

    def __init__(self, bundle: Bundle, site: str | None = None, *, least: int = LEAST, device: str = "auto") -> None:
        self.bundle, self.site, self.least = bundle, site, least
        self.device = choose_device(device)
        self.units = Units()
        self.masks: MaskFolder | None = None  # where predicted masks are written
        self._hospitals = Hospitals(bundle, site, self.device)

    @property
    def schema(self) -> CohortSchema:
        """Classes and modalities of the model."""
        return self.bundle.schema

    @property
    def calibration(self) -> Calibration | None:
        """Converts logits into probabilities and decisions; None if this run has no calibration."""
        return self.bundle.calibration

    @property
    def warnings(self) -> list[str]:
        """Warnings that apply to every prediction of this model."""
        return [f"{self.bundle.where}: {self._uncalibrated}"] if self._uncalibrated else []

    @property
    def _uncalibrated(self) -> str:
        """Why probabilities are not calibrated; empty if they are."""
        if not self.schema.predicts.by_class:
            return ""
        if self.calibration is None:
            return UNCALIBRATED
        lacking = self.calibration.reason if self.calibration.method == "none" else ""
        return f"{UNCALIBRATED}: {lacking}" if lacking else ""

    def outputs(self, cohort: Cohort, problems: Mapping[int, str] | None = None) -> Predictions:
        """Return the predictions for a cohort in memory, in its order.

        Parameters
        ----------
        cohort
            N patients; labels and splits are ignored.
        problems
            Position → why this patient can get no prediction.

        Raises
        ------
        UserError
            The cohort has another schema, or it is unclear which hospital's encoders to use.
        """
        self.check(cohort)
        given = dict(problems or {})
        for i in np.flatnonzero(cohort.groups_N == 0).tolist():
            given.setdefault(i, NO_MODALITY)
        site_N, available = self._hospitals.of(cohort), self._hospitals.available
        if len(cohort) and not any(site in available for site in site_N):
            raise UserError(self._hospitals.why_not(site_N[0]))
        for i in range(len(cohort)):
            if i not in given and site_N[i] not in available:
                given[i] = self._hospitals.why_not(site_N[i])
        out_N = np.array(sorted(given), dtype=np.int64)
        parts = [
            (
                out_N,
                refused(
                    self.schema, cohort.patient_id_N[out_N], [given[i] for i in out_N.tolist()], cohort.groups_N[out_N]
                ),
            )
        ]
        serve_N = np.setdiff1d(np.arange(len(cohort)), out_N)
        for site in dict.fromkeys(site_N[serve_N].tolist()):
            rows = serve_N[site_N[serve_N] == site]
            parts.append((rows, self._predict(site, cohort.take(rows))))
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return join([found for _, found in parts]).take(order)

    def stream(self, patients: NewPatients, size: int = CHUNK) -> Iterator[Predictions]:
        """Yield the predictions for any number of patients, some thousands at a time, in order."""
        for chunk in patients.chunks(size):
            yield self.outputs(chunk.cohort, chunk.problems)

    def open(self, patients: Patients, root: str = "", memory: Memory | None = None) -> NewPatients:
        """Open patients that are not in memory yet, for `stream`.

        Parameters
        ----------
        patients
            A cohort folder or its cohort.toml; or tables by modality, as for
            `remind.data.cohort.frames.from_frames`.
        root
            Folder of the cohort's files, if it is not the one that cohort.toml names.
        memory
            Cache for the results of checking the cohort's files.

        Raises
        ------
        UserError
            The patients do not fit the model; the error lists every difference.
        """
        if isinstance(patients, str | Path):
            return open_cohort(patients, self.schema, root, memory)
        return from_frames(patients, self.schema)

    def predict(self, patients: Cohort | Patients) -> "pd.DataFrame":
        """Return a table with one row per patient.

        Parameters
        ----------
        patients
            A `Cohort`; a cohort folder; or tables by modality: ``{"labs": DataFrame, "notes": DataFrame}`` with a
            column ``patient_id`` (`remind.data.cohort.frames.from_frames`). Labels are not needed, and any modality
            may be missing.

        Returns
        -------
        DataFrame
            patient_id; site; status (``ok``, or why there is no prediction); group; the numbers of another outcome
            than classes (docs/predict.md), or p_<class>, the model's raw probabilities;
            calibrated_<class>, empty without a calibration; decision, a class;
            train_n, training patients of the group; gate_open; trusted; reasons, why not. Probabilities lie in 0 … 1.

        Raises
        ------
        UserError
            The table does not fit the model, or it is unclear from which hospital the patients are.

        Warns
        -----
        UserWarning
            The input is valid but suspicious: for example rows without a patient's id, which are skipped.
        """
        if isinstance(patients, Cohort):
            return self.outputs(patients).frame()
        opened = self.open(patients)
        found = join(list(self.stream(opened))).frame()
        for text in opened.remarks:  # for example rows without a patient's id, which get no row in the table
            warnings.warn(text, stacklevel=2)
        return found

    # Probabilities and decisions

    def probabilities(self, cohort: Cohort, site: str) -> NDArray[np.float64]:
        """Return class probabilities, (N, C), calibrated if the model has a calibration.

        Every patient must have a modality. The encoders are this hospital's; an empty name means the shared model.
        """
        log_p_NC, _, _ = self._log_p(self._hospitals.load(site)[0], cohort)
        return self._calibrated(log_p_NC, cohort.groups_N)

    def believed(self, found: Predictions) -> NDArray[np.float64]:
        """Return these probabilities for patients who already have a prediction, (N, C)."""
        return found.p_NC if self._uncalibrated else found.calibrated_NC

    def decided(self, p_NC: NDArray[np.float64], group_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the decided class of each patient, (N,), from the probabilities that `believed` returns."""
        if not self.schema.predicts.by_class:
            return np.full(len(p_NC), -1, dtype=np.int64)
        found_N = p_NC.argmax(axis=1) if self.calibration is None else self.calibration.decide(p_NC, group_N)
        return found_N.astype(np.int64)

    def _calibrated(self, log_p_NC: NDArray[np.float64], group_N: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.exp(log_p_NC) if self.calibration is None else self.calibration.calibrated(log_p_NC, group_N)

    # One hospital

    def _predict(self, site: str, cohort: Cohort) -> Predictions:
        """Return the predictions with one hospital's encoders; every patient must have a modality."""
        loaded, part = self._hospitals.load(site)
        log_p_NC, open_N, values_NV = self._log_p(loaded, cohort)
        group_N, n = cohort.groups_N, len(cohort)
        p_NC = self._calibrated(log_p_NC, group_N)
        decision_N = self.decided(p_NC, group_N)
        calibrated_NC = np.full(p_NC.shape, np.nan) if self._uncalibrated else p_NC
        train_N = np.array([self.bundle.counts.get(k, 0) for k in group_N.tolist()], dtype=np.int64)
        return Predictions(
            self.schema,
            cohort.patient_id_N,
            np.full(n, site),
            objects([SERVED] * n),
            group_N,
            log_p_NC,
            calibrated_NC,
            decision_N,
            train_N,
            open_N,
            self._reasons(cohort, train_N, part),
            values_NV,
        )

    def _log_p(
        self, loaded: LoadedModel, cohort: Cohort
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
        return log_probabilities(loaded, cohort, self.device, self.bundle.config.threads, self.masks)

    def _reasons(self, cohort: Cohort, train_N: NDArray[np.int64], part: SitePart | None) -> NDArray[np.object_]:
        self.units.add(cohort, Ranges() if part is None else part.ranges)
        texts_N = reasons(cohort, train_N, self.bundle, part, self.least)
        always = (self._uncalibrated,) if self._uncalibrated else ()
        return objects([(*texts, *always) for texts in texts_N])

    def check(self, cohort: Cohort) -> None:
        """Check that the cohort has the model's schema.

        Raises
        ------
        UserError
            The schemas differ; the error lists the differences.
        """
        if cohort.schema.fingerprint != self.schema.fingerprint:
            lines = difference(self.schema, cohort.schema)
            raise UserError(
                "\n".join(
                    [
                        f"{self.bundle.where}: the cohort has another schema (the model's against the cohort's):",
                        *(f"  - {line}" for line in lines),
                    ]
                )
            )


def load(run: str | Path, site: str | None = None, *, least: int = LEAST, device: str = "auto") -> Predictor:
    """Load the model of a run.

    Parameters
    ----------
    run
        The results folder of a run.
    site, least, device
        As for `Predictor`.

    Raises
    ------
    UserError
        The folder contains no model, or no part of this hospital.
    """
    return Predictor(read_bundle(run), site, least=least, device=device)
