"""An analysis as it may be mailed: without the groups of few patients, and without what would give them away."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from remind.privacy.publication import Publication
from remind.privacy.threshold import is_small
from remind_studies.analysis.document import Analysis, ExpertUse, Look, ModalityValue, ModelAnalysis
from remind_studies.analysis.experts import apart
from remind_studies.analysis.patients import Patients, Told

Value = TypeVar("Value")


def mailed(analysis: Analysis, patients: Patients, minimum: int) -> Analysis:
    """What may be told under a minimum count of the patients that both models were trained on."""
    if minimum <= 1:
        return analysis
    told, names = patients.told(minimum), analysis.cohort.modalities
    kept = tuple(group for group in analysis.cohort.groups if group.mask in told.groups)
    models = tuple(_model(model, told, names, analysis.settings.few, minimum) for model in analysis.models)
    rows = [v for v in analysis.models[0].modality_value if v.mask is None or v.mask in told.groups]
    return analysis.model_copy(
        update={
            "settings": analysis.settings.model_copy(update={"min_count": minimum}),
            "cohort": analysis.cohort.model_copy(update={"groups": kept}),
            "models": models,
            "withheld_groups": len(analysis.cohort.groups) - len(kept),
            "withheld_rows": len(rows) - len(models[0].modality_value),
        }
    )


def _model(model: ModelAnalysis, told: Told, names: tuple[str, ...], few: int, minimum: int) -> ModelAnalysis:
    drawn = {
        k: own for k, own in model.drawn.items() if k in told.groups and not any(is_small(n, minimum) for n in own)
    }
    return model.model_copy(
        update={
            "drawn": drawn,
            "left_out": _of(model.left_out, told),
            "whole": _whole(model.whole, told, minimum),
            "weights": tuple(one.model_copy(update={"of": _of(one.of, told)}) for one in model.weights),
            "looks": tuple(_look(look, told, drawn) for look in model.looks),
            "experts": _experts(model.experts, told, few) if model.experts else None,
            "modality_value": tuple(
                _value(v, told) for v in model.modality_value if (v.mask, names.index(v.modality)) in told.rows
            ),
        }
    )


def _of(of_group: Mapping[int, Value], told: Told) -> dict[int, Value]:
    return {k: value for k, value in of_group.items() if k in told.groups}


def _whole(count_of: Mapping[int, int], told: Told, minimum: int) -> dict[int, int]:
    """Patients behind g_all; together they are as many as were asked for, so that one number gives another away."""
    rest = [k for k in count_of if k not in told.groups]
    numbers = {k: [k] for k in count_of if k in told.groups} | ({"rest": rest} if rest else {})
    if not count_of:
        return {}
    found = Publication(minimum).ask(numbers | {"all": list(count_of)}, count_of, known={"all"})
    return {k: n for k, n in count_of.items() if k in numbers and k in found}


def _look(look: Look, told: Told, drawn: Mapping[int, object]) -> Look:
    """Agreement tells how the drawn patients of a group fall into classes, so it goes with their numbers."""
    found = _of(look.consistency, told)
    found = {k: c if k in drawn else c.model_copy(update={"agreement": None}) for k, c in found.items()}
    return look.model_copy(update={"routing": _of(look.routing, told), "consistency": found})


def _experts(use: ExpertUse, told: Told, few: int) -> ExpertUse:
    """`ExpertUse.apart` is of the groups that are told alone: else it would tell of the others' experts."""
    of = _of(use.of, told)
    among = {k: np.array(share_E) for k, share_E in of.items() if use.n[k] >= few}
    return use.model_copy(update={"n": _of(use.n, told), "of": of, "apart": apart(among)})


def _value(value: ModalityValue, told: Told) -> ModalityValue:
    """Whether a group that is not told of was trained on would tell whether there is anybody."""
    return value if value.smaller in told.groups else value.model_copy(update={"known": None})
