"""Predicts with the model of a run: cohorts in, one row per patient out.

Letters: N patients, B of a batch, C classes.
"""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from remind import groups
from remind.data.batches.batch import SiteData
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.frames import from_frames
from remind.data.cohort.new_patients import CHUNK, NewPatients, open_cohort
from remind.data.cohort.schema import CohortSchema, difference
from remind.data.cohort.verdicts import Memory
from remind.errors import UserError
from remind.metrics.calibration import Calibration
from remind.prediction.bundle import Bundle, read_bundle
from remind.prediction.model import LoadedModel
from remind.prediction.predictions import SERVED, Predictions, join, objects, refused
from remind.prediction.ranges import Ranges, Units, remarks
from remind.prediction.site_part import SitePart
from remind.training.device import choose_device
from remind.training.outputs import outputs
from remind.training.site_data import FreshTokens

if TYPE_CHECKING:
    import pandas as pd

Patients = str | Path | Mapping[str, Any]
LEAST = 30  # training patients of a combination below which its predictions are not trusted, unless told otherwise
NO_MODALITY = "has no modality: nothing is known of this patient that the model could use"
UNCALIBRATED = "uncalibrated: this run has no calibration, and its probabilities are the model's own"


class Predictor:
    """A trained model at work.

    Parameters
    ----------
    bundle
        The model.
    site
        The hospital whose encoders are used; None: the one that the cohort's site column names for each patient, or
        the only one that there is.
    least
        Training patients of a combination below which its predictions are flagged.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Attributes
    ----------
    units
        Columns that may be in another unit than the training patients', after what was predicted so far.

    Raises
    ------
    UserError
        There is no part of this hospital, or no such device.
    """

    def __init__(self, bundle: Bundle, site: str | None = None, *, least: int = LEAST, device: str = "auto") -> None:
        self.bundle, self.site, self.least = bundle, site, least
        self.device = choose_device(device)
        self.units = Units()
        self._loaded: dict[str, tuple[LoadedModel, SitePart | None]] = {}
        if site is not None:
            self._at(site)

    @property
    def schema(self) -> CohortSchema:
        """Classes and modalities of the model."""
        return self.bundle.schema

    @property
    def calibration(self) -> Calibration | None:
        """How logits become probabilities and decisions; None: this run has none."""
        return self.bundle.calibration

    @property
    def warnings(self) -> list[str]:
        """What holds for every prediction of this model."""
        return [f"{self.bundle.where}: {self._uncalibrated}"] if self._uncalibrated else []

    @property
    def _uncalibrated(self) -> str:
        """Why probabilities are the model's own; empty if they are calibrated."""
        if self.calibration is None:
            return UNCALIBRATED
        lacking = self.calibration.reason if self.calibration.method == "none" else ""
        return f"{UNCALIBRATED}: {lacking}" if lacking else ""

    def outputs(self, cohort: Cohort, problems: Mapping[int, str] | None = None) -> Predictions:
        """Return the predictions for a cohort in memory, in its order.

        Parameters
        ----------
        cohort
            N patients; labels and splits are not looked at.
        problems
            Position → why this patient cannot be served.

        Raises
        ------
        UserError
            The cohort is of another schema, or it is not known which hospital's encoders to use.
        """
        self.check(cohort)
        given = dict(problems or {})
        for i in np.flatnonzero(cohort.groups_N == 0).tolist():
            given.setdefault(i, NO_MODALITY)
        site_N = self._sites(cohort)
        if len(cohort) and not any(site in self._servable for site in site_N):
            raise UserError(self._unknown(site_N[0]))
        for i in range(len(cohort)):
            if i not in given and site_N[i] not in self._servable:
                given[i] = self._unknown(site_N[i])
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
        """Yield the predictions for patients of any number, some thousands at a time, in their order."""
        for chunk in patients.chunks(size):
            yield self.outputs(chunk.cohort, chunk.problems)

    def open(self, patients: Patients, root: str = "", memory: Memory | None = None) -> NewPatients:
        """Return patients that are not in memory yet, ready to be streamed.

        Parameters
        ----------
        patients
            A cohort folder or its cohort.toml; or tables by modality, as for
            `remind.data.cohort.frames.from_frames`.
        root
            Folder of the cohort's files, if it is not the one that cohort.toml names.
        memory
            Cache for verdicts on the cohort's files.

        Raises
        ------
        UserError
            They do not fit the model; the error names everything that does not.
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
            patient_id; site; status (``ok``, or why there is no prediction); group; p_<class>, the model's
            probabilities; calibrated_<class>, those to believe, empty without a calibration; decision, a class;
            train_n, training patients of the group; gate_open; trusted; reasons, why not. Probabilities lie in 0 … 1.

        Raises
        ------
        UserError
            The patients do not fit the model as a whole, or it is not known of which hospital they are.

        Warns
        -----
        UserWarning
            Of what is odd but no error, such as rows without a patient's id, which are passed over.
        """
        if isinstance(patients, Cohort):
            return self.outputs(patients).frame()
        opened = self.open(patients)
        found = join(list(self.stream(opened))).frame()
        for text in opened.remarks:  # rows without a patient's id, for instance, of whom no row of the table can tell
            warnings.warn(text, stacklevel=2)
        return found

    # What the model believes

    def belief(self, cohort: Cohort, site: str) -> NDArray[np.float64]:
        """Return the class probabilities to believe, (N, C): calibrated ones where the model has a calibration.

        Every patient has a modality and gets the encoders of this hospital; empty: of none.
        """
        log_p_NC, _ = self._logits(self._at(site)[0], cohort)
        return self._calibrated(log_p_NC, cohort.groups_N)

    def believed(self, found: Predictions) -> NDArray[np.float64]:
        """Return the same of patients who have been predicted for, (N, C)."""
        return found.p_NC if self._uncalibrated else found.calibrated_NC

    def decided(self, p_NC: NDArray[np.float64], group_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the class decided for each patient, (N,), from the probabilities to believe."""
        found_N = p_NC.argmax(axis=1) if self.calibration is None else self.calibration.decide(p_NC, group_N)
        return found_N.astype(np.int64)

    def _calibrated(self, log_p_NC: NDArray[np.float64], group_N: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.exp(log_p_NC) if self.calibration is None else self.calibration.calibrated(log_p_NC, group_N)

    # One hospital

    def _predict(self, site: str, cohort: Cohort) -> Predictions:
        """Return the predictions for patients who all have a modality, with one hospital's encoders."""
        loaded, part = self._at(site)
        log_p_NC, open_N = self._logits(loaded, cohort)
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
        )

    def _logits(self, loaded: LoadedModel, cohort: Cohort) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return ln p, (N, C), and the share of open gates, (N,); NaN for a model without gates.

        Patients of combinations that only other hospitals trained come after the others, whose batches are then those
        of the examination.
        """
        config = self.bundle.config
        source = FreshTokens(loaded.model, SiteData(cohort, loaded.dtype, self.device))
        log_p_NC = np.full((len(cohort), len(self.schema.classes)), np.nan)
        open_N = np.full(len(cohort), np.nan)
        reached_N = np.isin(cohort.groups_N, [int(k) for k in loaded.elsewhere])
        with threads(config.threads):
            for rows, reach in ((~reached_N, False), (reached_N, True)):
                index_N = np.flatnonzero(rows)
                with loaded.reaching() if reach else nullcontext():
                    for batch, output in outputs(loaded.model, source, index_N, loaded.routing):
                        index_B = batch.index_B.cpu().numpy()
                        log_p_NC[index_B] = output.logits_BC.double().log_softmax(dim=-1).cpu().numpy()
                        if output.open_B is not None:
                            open_N[index_B] = output.open_B.double().cpu().numpy()
        return log_p_NC, open_N

    def _reasons(self, cohort: Cohort, train_N: NDArray[np.int64], part: SitePart | None) -> NDArray[np.object_]:
        found: list[list[str]] = [[] for _ in range(len(cohort))]
        for i, (group, n) in enumerate(zip(cohort.groups_N.tolist(), train_N.tolist(), strict=True)):
            name = groups.name(group, self.schema.names)
            if n == 0:
                who = "no training patient" if self.bundle.tensors else "no training patient of this hospital"
                found[i].append(f"unseen combination: {who} had {name}")
            elif n < self.least:
                found[i].append(f"few training patients: {n} had {name}, fewer than {self.least}")
            here = 0 if part is None else part.own.get(group, 0)
            if part is not None and part.adapted and n and here < self.least:
                found[i].append(f"adapted to few patients: {here} of this hospital had {name}, fewer than {self.least}")
        ranges = Ranges() if part is None else part.ranges
        for i, texts in remarks(cohort, ranges).items():
            found[i] += texts
        self.units.add(cohort, ranges)
        if self._uncalibrated:
            for texts in found:
                texts.append(self._uncalibrated)
        return objects([tuple(texts) for texts in found])

    # Which hospital

    @property
    def _servable(self) -> tuple[str, ...]:
        """Hospitals that patients can be served with; an empty name: none is needed."""
        return ("", *self.bundle.sites) if self._needs_no_site else self.bundle.sites

    @property
    def _needs_no_site(self) -> bool:
        return self.bundle.serves_everybody

    def _at(self, site: str) -> tuple[LoadedModel, SitePart | None]:
        if site not in self._loaded:
            part = self.bundle.part(site) if site else None
            self._loaded[site] = LoadedModel(self.bundle, part, self.device), part
        return self._loaded[site]

    def _sites(self, cohort: Cohort) -> NDArray[np.object_]:
        """Return the hospital of each patient, whether it can be served or not."""
        n = len(cohort)
        if self.site is not None:
            return objects([self.site] * n)
        if len(self.bundle.sites) == 1:
            return objects([self.bundle.sites[0]] * n)
        if cohort.site_N is not None and (not self._needs_no_site or self.bundle.sites):
            return objects(
                ["" if self._needs_no_site and s not in self.bundle.sites else s for s in cohort.site_N.tolist()]
            )
        if self._needs_no_site:
            return objects([""] * n)
        if not self.bundle.sites:
            self.bundle.part("")
        raise UserError(
            f"{self.bundle.where}: which hospital are these patients of? Its encoders stay with each hospital, and the "
            f"cohort has no site column; name it with --site: {', '.join(self.bundle.sites)}"
        )

    def _unknown(self, site: str) -> str:
        try:
            self.bundle.part(site)
        except UserError as error:
            return str(error)
        raise AssertionError(site)

    def check(self, cohort: Cohort) -> None:
        """Refuse a cohort of another schema than the model's.

        Raises
        ------
        UserError
            It says where they differ.
        """
        if cohort.schema.fingerprint != self.schema.fingerprint:
            lines = difference(self.schema, cohort.schema)
            raise UserError(
                "\n".join(
                    [
                        f"{self.bundle.where}: the cohort is of another schema (the model's against the cohort's):",
                        *(f"  - {line}" for line in lines),
                    ]
                )
            )


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Inside the block torch uses as many CPU threads as the run did: sums in another order round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
        There is no model there, or no part of this hospital.
    """
    return Predictor(read_bundle(run), site, least=least, device=device)
