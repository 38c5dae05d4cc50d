"""Metrics of the service for Prometheus: requests, latency, groups, unseen combinations, drift of inputs.

Numbers of patients are rounded to steps of the hospital's minimum count, so that neither a number nor the difference
of two scrapes describes fewer patients. Requests are counted exactly: they disclose no group and no value.

Drift: for every numeric column and item, the sums (number, Σz, Σz²) are kept, with z = (x − mean)/std of the training
patients. After `BLOCK` values, their mean and standard deviation are published and the sums are reset. Without drift
these are 0 and 1; a wrong unit gives very different values.
"""

import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from remind import groups
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.kind import Measured, kind_of
from remind.prediction.predictions import Predictions

BLOCK = 50  # values of a column per report of its drift; the minimum count if that is larger
CLIP = 8.0  # standard deviations; encoders clip at the same value
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
Floats = NDArray[np.floating]
Moments = Mapping[str, Mapping[str, tuple[float, float]]]
Place = tuple[str, str]  # modality, column or item


@dataclass(eq=False)
class Sums:
    """Number, Σz and Σz² of values."""

    number: int = 0
    first: float = 0.0
    second: float = 0.0

    def add(self, z: Floats) -> None:
        """Add values."""
        self.number += len(z)
        self.first += float(z.sum())
        self.second += float(np.square(z).sum())

    def moments(self) -> tuple[float, float]:
        """Return the mean and the standard deviation."""
        mean = self.first / self.number
        return mean, math.sqrt(max(0.0, self.second / self.number - mean * mean))


@dataclass(eq=False)
class Monitor(Collector):
    """Counts for one process.

    Attributes
    ----------
    minimum
        The hospital's minimum count.
    """

    minimum: int
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _patients: Counter[str] = field(default_factory=Counter)  # by group
    _unseen: int = 0
    _refused: int = 0
    _untrusted: int = 0
    _sums: dict[Place, Sums] = field(default_factory=dict)
    _reports: dict[Place, tuple[float, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.seconds = Histogram(
            "remind_serve_request_seconds", "From a request to its answer", buckets=SECONDS, registry=self.registry
        )
        self.requests = PrometheusCounter(
            "remind_serve_requests", "Requests for predictions, by status", ["status"], registry=self.registry
        )
        self.loads = PrometheusCounter("remind_serve_models", "Models loaded", registry=self.registry)
        self.registry.register(self)

    def model_loaded(self) -> None:
        """Reset the sums of drift, which are relative to the training patients of a model."""
        self.loads.inc()
        with self._lock:
            self._sums.clear()
            self._reports.clear()

    def answered(self, cohort: Cohort, found: Predictions, moments: Moments) -> None:
        """Count the patients of one request."""
        served_N = found.served_N
        with self._lock:
            self._refused += int((~served_N).sum())
            self._unseen += int((served_N & (found.train_N == 0)).sum())
            self._untrusted += sum(bool(reasons) for reasons in found.reasons_N[served_N])
            self._patients.update(groups.name(k, cohort.schema.names) for k in found.group_N[served_N].tolist())
            for place, z in _standardised(cohort.take(served_N), moments):
                own = self._sums.setdefault(place, Sums())
                own.add(z)
                if own.number >= max(BLOCK, self.minimum):
                    self._reports[place] = own.moments()
                    self._sums[place] = Sums()

    def describe(self) -> Iterable[Metric]:
        """Yield nothing: the metrics depend on the patients."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics about patients."""
        with self._lock:
            patients, reports = dict(self._patients), dict(self._reports)
            totals = {
                "remind_serve_patients_refused": ("Patients without a prediction", self._refused),
                "remind_serve_patients_unseen": ("Patients whose combination has no training patients", self._unseen),
                "remind_serve_patients_flagged": (
                    "Patients whose prediction is flagged",
                    self._untrusted,
                ),
            }
            served = sum(patients.values())
            unseen = self._unseen
        by_group = GaugeMetricFamily(
            "remind_serve_patients", f"Patients served, in steps of {self.minimum}", labels=["group"]
        )
        for name, number in [("all", served), *sorted(patients.items())]:
            if shown := self._stepped(number):
                by_group.add_metric([name], shown)
        yield by_group
        for name, (text, number) in totals.items():
            yield GaugeMetricFamily(name, f"{text}, in steps of {self.minimum}", value=self._stepped(number))
        if self._stepped(served):
            share = self._stepped(unseen) / self._stepped(served)
            text = "Share of patients whose combination has no training patients; both numbers in steps"
            yield GaugeMetricFamily("remind_serve_unseen_share", text, value=min(1.0, share))
        yield from _drift(reports)

    def _stepped(self, number: int) -> int:
        return number - number % self.minimum


def _drift(reports: Mapping[Place, tuple[float, float]]) -> Iterator[Metric]:
    labels = ["modality", "column"]
    shift = GaugeMetricFamily(
        "remind_serve_input_shift", "Mean of a column's last values, in training standard deviations", labels=labels
    )
    spread = GaugeMetricFamily(
        "remind_serve_input_spread", "Standard deviation of a column's last values ÷ that in training", labels=labels
    )
    for place, (mean, std) in sorted(reports.items()):
        shift.add_metric(list(place), mean)
        spread.add_metric(list(place), std)
    yield from (shift, spread)


def _standardised(cohort: Cohort, moments: Moments) -> Iterator[tuple[Place, Floats]]:
    """Yield the values of every numeric column and item whose training moments are known, one per patient."""
    for schema in cohort.schema.modalities:
        known = moments.get(schema.name, {})
        for measured in kind_of(schema).measured(schema, cohort.modalities[schema.name]):
            if measured.levels or measured.name not in known:
                continue
            column, value_N = measured.name, _means(measured, len(cohort))
            mean, std = known[column]
            z = (value_N - mean) / std
            z = z[~np.isnan(z)].clip(-CLIP, CLIP)
            if len(z):
                yield (schema.name, column), z


def _means(measured: Measured, n: int) -> Floats:
    """Return each patient's mean, (N,), so that a patient with many observations counts once; NaN without values."""
    number_N = np.bincount(measured.patient_O, minlength=n)
    total_N = np.bincount(measured.patient_O, weights=measured.value_O, minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_N: Floats = np.where(number_N > 0, total_N / number_N, np.nan)
    return mean_N
