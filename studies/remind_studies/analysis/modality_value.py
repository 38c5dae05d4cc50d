"""The value of a modality for a group: evaluate its test patients again as members of the group without the modality.

If some hospital trained on the smaller group, its own parameters are used; otherwise those of an unseen group
(algorithm §4.10). The patients' other modalities stay unchanged.

Shapes: N test patients, m modalities, C classes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from remind.data.cohort.cohort import TEST
from remind.groups import members
from remind.seeds import derive
from remind_studies.analysis.bootstrap import Prediction, gains
from remind_studies.analysis.document import ModalityValue
from remind_studies.analysis.hospitals import Hospitals, View

Integers = NDArray[np.int64]
FEW = 30  # a number with fewer test patients is marked


@dataclass(frozen=True)
class Tested:
    """Test patients of all hospitals, one after the other.

    Attributes
    ----------
    full
        Predictions with all modalities.
    hidden
        Modality → predictions without it, for patients who have it and another modality; 0 in other rows.
    """

    group_N: Integers
    person_N: NDArray[np.str_]
    full: Prediction
    hidden: Mapping[int, Prediction]


def modality_value(hospitals: Hospitals, tensors: Mapping[str, Tensor], routing: bool) -> tuple[ModalityValue, ...]:
    """Return each group's gain from each of its modalities, then the gain over all patients with two modalities.

    Parameters
    ----------
    tensors, routing
        The coordinator's final tensors, and whether the model uses Φ_k.
    """
    tested = predict(hospitals, tensors, routing)
    trained, names = hospitals.counts(), hospitals.schema.names
    rows = []
    for group in np.unique(tested.group_N).tolist():
        for modality in members(group):
            if smaller := group & ~(1 << modality):
                chosen_N = tested.group_N == group
                rows.append(_value(tested, chosen_N, group, modality, smaller, trained, hospitals))
    for modality in range(len(names)):
        chosen_N = _having(tested.group_N, modality)
        if chosen_N.any():
            rows.append(_value(tested, chosen_N, None, modality, None, trained, hospitals))
    return tuple(rows)


def predict(hospitals: Hospitals, tensors: Mapping[str, Tensor], routing: bool) -> Tested:
    """Return the predictions for all test patients, with all modalities and without each one."""
    with hospitals.in_use(tensors, routing) as views:
        rows = [view.engine.patients.index[TEST] for view in views]
        cohorts = [view.engine.patients.cohort for view in views]
        group_N = np.concatenate([cohort.groups_N[row_N] for cohort, row_N in zip(cohorts, rows, strict=True)])
        label_N = np.concatenate([cohort.label_N[row_N] for cohort, row_N in zip(cohorts, rows, strict=True)])
        person_N = np.concatenate([cohort.person_N[row_N] for cohort, row_N in zip(cohorts, rows, strict=True)])
        full_NC = np.concatenate([_log_p(v, row_N) for v, row_N in zip(views, rows, strict=True)])
    hidden = {}
    with hospitals.in_use(tensors, routing, every_group=True) as views:
        for modality in range(len(hospitals.schema.names)):
            log_p_NC = np.zeros_like(full_NC)
            found = [
                _log_p(v, row_N[_having(v.engine.patients.cohort.groups_N[row_N], modality)], modality)
                for v, row_N in zip(views, rows, strict=True)
            ]
            log_p_NC[_having(group_N, modality)] = np.concatenate(found)
            hidden[modality] = Prediction(log_p_NC, label_N)
    return Tested(group_N, person_N, Prediction(full_NC, label_N), hidden)


def _having(group_N: Integers, modality: int) -> NDArray[np.bool_]:
    """Return which patients have this modality and another."""
    having_N: NDArray[np.bool_] = (group_N >> modality & 1 == 1) & (group_N != 1 << modality)
    return having_N


def _log_p(view: View, row_N: Integers, hide: int | None = None) -> NDArray[np.float64]:
    found = [np.empty((0, len(view.engine.patients.cohort.schema.classes)))]
    for _, output in view.outputs(row_N, hide):
        found.append(output.logits_BC.double().log_softmax(dim=-1).cpu().numpy())
    return np.concatenate(found)


def _value(
    tested: Tested,
    chosen_N: NDArray[np.bool_],
    group: int | None,
    modality: int,
    smaller: int | None,
    trained: Collection[int],
    hospitals: Hospitals,
) -> ModalityValue:
    label_n = tested.full.label_N[chosen_N]
    full = Prediction(tested.full.log_p_NC[chosen_N], label_n)
    hidden = Prediction(tested.hidden[modality].log_p_NC[chosen_N], label_n)
    seed = derive(hospitals.config.seed, "modality value", group or 0, modality)
    found = gains(full, hidden, tested.person_N[chosen_N], seed)
    accuracy, loss = found["accuracy"], found["loss"]
    assert accuracy is not None  # only AUROC can be undefined
    assert loss is not None
    return ModalityValue(
        mask=group,
        modality=hospitals.schema.names[modality],
        smaller=smaller,
        known=None if smaller is None else smaller in trained,
        n=int(chosen_N.sum()),
        positives=int(label_n.sum()) if len(hospitals.schema.classes) == 2 else None,
        few=bool(chosen_N.sum() < FEW),
        auroc=found["auroc"],
        accuracy=accuracy,
        loss=loss,
    )
