"""Estimate what each missing modality of each patient would change (docs/next-test.md).

Letters: N patients, T pairs of patient and missing modality, R reference patients, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remind import groups
from remind.data.cohort.cohort import TRAIN, Cohort, Text
from remind.data.cohort.schema import CohortSchema
from remind.errors import UserError
from remind.outcomes.base import require
from remind.prediction.expected_change import Pairs, expect
from remind.prediction.predictions import SERVED, Predictions, numbers, objects
from remind.prediction.predictor import Predictor
from remind.seeds import derive

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Reference = Callable[[str], Cohort]  # hospital → reference patients; raises UserError if there are none
LEAST = 30  # with fewer reference patients there is no estimate
MOST = 1000  # reference patients per estimate at most; all of them have the test and the patient's modalities
ESTIMATES = ("change", "flips", "gain", "measured")


@dataclass(frozen=True, eq=False)
class NextTests:
    """One entry per patient and missing modality, in the order of the patients and of the schema's modalities.

    Attributes
    ----------
    schema
        The model's schema.
    patient_id_T, site_T, group_T
        The patient, the hospital whose encoders and reference patients were used, and the patient's combination.
    test_T
        The missing modality, as its position in the schema.
    status_T
        Objects: ``ok``, or why there is no estimate.
    n_T
        Number of reference patients behind the estimate; 0 if there is none.
    change_T3, flips_T3, gain_T3, measured_T3
        As in `remind.prediction.expected_change.Expected`; NaN where there is no estimate.
    """

    schema: CohortSchema
    patient_id_T: Text
    site_T: Text
    group_T: NDArray[np.int64]
    test_T: NDArray[np.int64]
    status_T: NDArray[np.object_]
    n_T: NDArray[np.int64]
    change_T3: Floats
    flips_T3: Floats
    gain_T3: Floats
    measured_T3: Floats

    def __len__(self) -> int:
        return len(self.test_T)

    def columns(self) -> dict[str, list[Any]]:
        """Return the table: column → values; None where there is no estimate."""
        names = self.schema.names
        table: dict[str, list[Any]] = {
            "patient_id": self.patient_id_T.tolist(),
            "site": self.site_T.tolist(),
            "group": [groups.name(k, names) for k in self.group_T.tolist()],
            "test": [names[j] for j in self.test_T.tolist()],
            "status": self.status_T.tolist(),
            "n": self.n_T.tolist(),
        }
        for name in ESTIMATES:
            value_T3 = getattr(self, f"{name}_T3")
            for column, suffix in enumerate(("", "_low", "_high")):
                table[name + suffix] = numbers(value_T3[:, column])
        return table

    def frame(self) -> "pd.DataFrame":
        """Return the table as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.columns())


class NextTest:
    """Estimates what each missing modality would change, from patients of the hospital who have it.

    Parameters
    ----------
    predictor
        The model.
    reference
        Reference patients, usually the hospital's own patients that the model was not trained on. A label may be −1,
        unknown. Or a function that returns them for a hospital's name.
    least
        Minimum number of reference patients for an estimate.
    """

    def __init__(self, predictor: Predictor, reference: Cohort | Reference, *, least: int = LEAST) -> None:
        require(predictor.schema.predicts, "the next test (--next-test)", by_class=True)
        if least < 2:
            raise UserError(f"least: {least}; an interval needs at least 2 reference patients")
        self.predictor, self.least = predictor, least
        self._reference: Reference = (lambda site: reference) if isinstance(reference, Cohort) else reference
        self._cohorts: dict[str, Cohort] = {}
        self._pairs: dict[tuple[str, int, int], Pairs | str] = {}

    def of(self, found: Predictions) -> NextTests:
        """Return what each missing modality would change for the patients of a prediction.

        A patient without a prediction or without a missing modality has no entry.

        Raises
        ------
        UserError
            A hospital has no reference patients, or they do not fit the model.
        """
        parts = [self._nothing(found)]
        lacking = [1 << j for j in range(len(found.schema.names))]
        served_N = found.served_N
        for site in dict.fromkeys(found.site_N[served_N].tolist()):
            here_N = served_N & (found.site_N == site)
            for group in dict.fromkeys(found.group_N[here_N].tolist()):
                rows = np.flatnonzero(here_N & (found.group_N == group))
                for j, bit in enumerate(lacking):
                    if not group & bit:
                        parts.append((rows, self._one(found.take(rows), site, group, j)))
        order = np.concatenate([rows for rows, _ in parts])
        tests = _join([part for _, part in parts])
        return _take(tests, np.lexsort((tests.test_T, order)))

    def table(self, patients: Any) -> "pd.DataFrame":
        """Return one row per patient and missing modality; `patients` as for `Predictor.predict`.

        Returns
        -------
        DataFrame
            patient_id; site; group; test, the missing modality; status (``ok``, or why there is no estimate); n; and
            change, flips, gain and measured with their 95 % intervals (…_low, …_high) (docs/next-test.md).
        """
        predictor = self.predictor
        if isinstance(patients, Cohort):
            return self.of(predictor.outputs(patients)).frame()
        return _join([self.of(found) for found in predictor.stream(predictor.open(patients))]).frame()

    # One pair of combination and test

    def _one(self, found: Predictions, site: str, group: int, j: int) -> NextTests:
        n, after = len(found), group | 1 << j
        tests = NextTests(
            found.schema,
            found.patient_id_N,
            found.site_N,
            found.group_N,
            np.full(n, j),
            objects([SERVED] * n),
            np.zeros(n, dtype=np.int64),
            *(np.full((n, 3), np.nan) for _ in ESTIMATES),
        )
        key = site, group, j
        if key not in self._pairs:
            self._pairs[key] = self._made(site, group, after)
        pairs = self._pairs[key]
        if isinstance(pairs, str):
            tests.status_T[:] = f"not known: {pairs}"
            return tests
        expected = expect(
            pairs,
            self.predictor.believed(found),
            found.decision_N,
            lambda p_BC: self.predictor.decided(p_BC, np.full(len(p_BC), after)),
            self.least,
        )
        tests.status_T[~expected.near_N] = (
            f"not known: for none of the {len(pairs)} reference patients with {self._name(after)} were the model's "
            "probabilities close to this patient's"
        )
        tests.n_T[expected.near_N] = expected.n
        for name in ESTIMATES:
            getattr(tests, f"{name}_T3")[:] = getattr(expected, f"{name}_N3")
        return tests

    def _made(self, site: str, group: int, after: int) -> Pairs | str:
        """Return the pairs of the reference patients, or a text that says why there are none."""
        counts = self.predictor.bundle.counts
        for k in (group, after):
            if not counts.get(k, 0):
                return f"no training patient had {self._name(k)}, as far as is known here"
        if site not in self._cohorts:
            self.predictor.check(reference := self._reference(site))
            self._cohorts[site] = reference
        of = self._cohorts[site]
        rows = np.flatnonzero(of.groups_N & after == after)
        if len(rows) < self.least:
            have = f"{len(rows)} reference patients have {self._name(after)}"
            return f"{have}, and fewer than {self.least} are too few"
        if len(rows) > MOST:
            rng = np.random.default_rng(derive(self.predictor.bundle.config.seed, "next test", site, group, after))
            rows = np.sort(rng.choice(rows, MOST, replace=False))
        of = of.take(rows)
        return Pairs(self._seen(of, site, group), self._seen(of, site, after), of.label_N)

    def _seen(self, of: Cohort, site: str, group: int) -> Floats:
        """Return the class probabilities of these patients when the model sees only these modalities, (R, C)."""
        hidden = [name for j, name in enumerate(of.schema.names) if not group >> j & 1]
        return self.predictor.probabilities(of.without(*hidden), site)

    def _name(self, group: int) -> str:
        return groups.name(group, self.predictor.schema.names)

    @staticmethod
    def _nothing(found: Predictions) -> tuple[NDArray[np.int64], NextTests]:
        none = np.zeros(0, dtype=np.int64)
        texts = found.patient_id_N[:0], found.site_N[:0]
        numbers_ = (np.zeros((0, 3)) for _ in ESTIMATES)
        return none, NextTests(found.schema, *texts, none, none, objects([]), none, *numbers_)


def held_out(cohort: Cohort) -> Cohort:
    """Return the patients that the model was not trained on; all patients if the cohort has no split."""
    return cohort if cohort.split_N is None else cohort.take(cohort.split_N != TRAIN)


def _take(tests: NextTests, index: NDArray[Any]) -> NextTests:
    return NextTests(tests.schema, *(getattr(tests, f.name)[index] for f in fields(tests)[1:]))


def _join(parts: Sequence[NextTests]) -> NextTests:
    names = [f.name for f in fields(NextTests)[1:]]
    return NextTests(parts[0].schema, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))
