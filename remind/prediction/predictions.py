"""The rows of a prediction, one per patient, as arrays and as a table.

Letters: N patients, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remind import groups
from remind.data.cohort.cohort import Text
from remind.data.cohort.schema import CohortSchema

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
SERVED = "ok"


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions, one entry per patient, in the order of the input.

    Attributes
    ----------
    schema
        The model's schema: its classes and modalities.
    patient_id_N
        Ids as in the cohort.
    site_N
        The hospital whose encoders were used; empty if the model needs no hospital's encoders.
    status_N
        Objects: ``ok``, or why this patient got no prediction.
    group_N
        The patient's modality combination, a bitmask; 0: no modality.
    log_p_NC
        ln of the raw class probabilities; NaN for a patient without a prediction.
    calibrated_NC
        Calibrated class probabilities, 0 … 1; NaN as above, and for all patients if the model has no calibration.
    decision_N
        Index of the decided class, by the operating point or else the most probable class; −1: no prediction.
    train_N
        Training patients of the combination over all hospitals, as far as this machine knows.
    open_N
        Share of blocks in which the combination's own router was used, 0 … 1; NaN for a model without such a gate.
    reasons_N
        Objects: tuples of texts, the reasons not to trust the model for this patient; empty if there is none.
    values_NV
        Numbers that another outcome than classes predicts (`Outcome.values`); NaN for a patient without a prediction;
        None: classes.
    """

    schema: CohortSchema
    patient_id_N: Text
    site_N: Text
    status_N: NDArray[np.object_]
    group_N: Integers
    log_p_NC: Floats
    calibrated_NC: Floats
    decision_N: Integers
    train_N: Integers
    open_N: Floats
    reasons_N: NDArray[np.object_]
    values_NV: Floats | None = None

    def __len__(self) -> int:
        return len(self.patient_id_N)

    @property
    def p_NC(self) -> Floats:
        """Raw class probabilities."""
        return np.exp(self.log_p_NC)

    @property
    def served_N(self) -> NDArray[np.bool_]:
        """Return which patients got a prediction."""
        return np.array([status == SERVED for status in self.status_N], dtype=bool)

    def take(self, index: NDArray[Any]) -> "Predictions":
        """Select the patients at these positions (or under this mask), in that order."""
        arrays = {name: array[index] for name, array in _arrays(self).items()}
        return Predictions(self.schema, **arrays)

    def columns(self) -> dict[str, list[Any]]:
        """Return the table: column → one value per patient; None where a value is unknown."""
        classes, served = self.schema.classes, self.served_N.tolist()
        table: dict[str, list[Any]] = {
            "patient_id": self.patient_id_N.tolist(),
            "site": self.site_N.tolist(),
            "status": self.status_N.tolist(),
            "group": [groups.name(k, self.schema.names) for k in self.group_N.tolist()],
        }
        if self.values_NV is not None:
            names = self.schema.predicts.values
            table |= {name: numbers(self.values_NV[:, v]) for v, name in enumerate(names)}
        table |= {f"p_{name}": numbers(self.p_NC[:, c]) for c, name in enumerate(classes)}
        table |= {f"calibrated_{name}": numbers(self.calibrated_NC[:, c]) for c, name in enumerate(classes)}
        decided = [classes[c] if c >= 0 else None for c in self.decision_N.tolist()]
        opened = [None if value is None else value > 0 for value in numbers(self.open_N)]
        trusted = [ok and not reasons for ok, reasons in zip(served, self.reasons_N, strict=True)]
        if self.schema.predicts.by_class:
            table["decision"] = decided
        return table | {
            "train_n": self.train_N.tolist(),
            "gate_open": opened,
            "trusted": trusted,
            "reasons": ["; ".join(reasons) for reasons in self.reasons_N],
        }

    def frame(self) -> "pd.DataFrame":
        """Return the table as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.columns())


def join(parts: Sequence[Predictions]) -> Predictions:
    """Return the patients of all parts, in their order; at least one part."""
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _arrays(parts[0])}
    return Predictions(parts[0].schema, **arrays)


def _arrays(of: Predictions) -> dict[str, NDArray[Any]]:
    """Return the arrays, one entry per patient each."""
    found = {f.name: getattr(of, f.name) for f in fields(of) if f.name != "schema"}
    return {name: array for name, array in found.items() if array is not None}


def refused(schema: CohortSchema, patient_id_N: Text, reasons: Sequence[str], group_N: Integers) -> Predictions:
    """Return rows of patients who get no prediction, with the reasons."""
    n, classes = len(patient_id_N), len(schema.classes)
    return Predictions(
        schema,
        patient_id_N,
        np.full(n, "", dtype=np.str_),
        objects(reasons),
        group_N,
        np.full((n, classes), np.nan),
        np.full((n, classes), np.nan),
        np.full(n, -1, dtype=np.int64),
        np.zeros(n, dtype=np.int64),
        np.full(n, np.nan),
        objects([()] * n),
        None if schema.predicts.by_class else np.full((n, len(schema.predicts.values)), np.nan),
    )


def objects(values: Sequence[Any]) -> NDArray[np.object_]:
    """Return an array of objects, one per value, tuples included."""
    found = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        found[i] = value
    return found


def numbers(values: Floats) -> list[float | None]:
    """Return the values with None in place of NaN."""
    return [None if math.isnan(value) else value for value in values.tolist()]
