"""Suppress small groups in an analysis, and numbers from which theirs would follow."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from remind.privacy.publication import Publication
from remind.privacy.threshold import is_small
from remind_studies.analysis.document import Analysis, ExpertUse, Look, ModalityValue, ModelAnalysis
from remind_studies.analysis.experts import apart
from remind_studies.analysis.patients import Patients, Publishable

Value = TypeVar("Value")


def mailed(analysis: Analysis, patients: Patients, minimum: int) -> Analysis:
    """Return the publishable part of an analysis under a minimum count, for the patients of both models."""
    if minimum <= 1:
        return analysis
    public, names = patients.publishable(minimum), analysis.cohort.modalities
    kept = tuple(group for group in analysis.cohort.groups if group.mask in public.groups)
    models = tuple(_model(model, public, names, analysis.settings.few, minimum) for model in analysis.models)
    rows = [v for v in analysis.models[0].modality_value if v.mask is None or v.mask in public.groups]
    return analysis.model_copy(
        update={
            "settings": analysis.settings.model_copy(update={"min_count": minimum}),
            "cohort": analysis.cohort.model_copy(update={"groups": kept}),
            "models": models,
            "withheld_groups": len(analysis.cohort.groups) - len(kept),
            "withheld_rows": len(rows) - len(models[0].modality_value),
        }
    )


def _model(model: ModelAnalysis, public: Publishable, names: tuple[str, ...], few: int, minimum: int) -> ModelAnalysis:
    drawn = {
        k: own for k, own in model.drawn.items() if k in public.groups and not any(is_small(n, minimum) for n in own)
    }
    return model.model_copy(
        update={
            "drawn": drawn,
            "left_out": _of(model.left_out, public),
            "whole": _whole(model.whole, public, minimum),
            "weights": tuple(one.model_copy(update={"of": _of(one.of, public)}) for one in model.weights),
            "looks": tuple(_look(look, public, drawn) for look in model.looks),
            "experts": _experts(model.experts, public, few) if model.experts else None,
            "modality_value": tuple(
                _value(v, public) for v in model.modality_value if (v.mask, names.index(v.modality)) in public.rows
            ),
        }
    )


def _of(of_group: Mapping[int, Value], public: Publishable) -> dict[int, Value]:
    return {k: value for k, value in of_group.items() if k in public.groups}


def _whole(count_of: Mapping[int, int], public: Publishable, minimum: int) -> dict[int, int]:
    """Return the patients of g_all by group. Their total is known, so one number would reveal another."""
    rest = [k for k in count_of if k not in public.groups]
    numbers = {k: [k] for k in count_of if k in public.groups} | ({"rest": rest} if rest else {})
    if not count_of:
        return {}
    found = Publication(minimum).ask(numbers | {"all": list(count_of)}, count_of, known={"all"})
    return {k: n for k, n in count_of.items() if k in numbers and k in found}


def _look(look: Look, public: Publishable, drawn: Mapping[int, object]) -> Look:
    """Suppress an evaluation. Agreement depends on the classes of the drawn patients, so it is suppressed with them."""
    found = _of(look.consistency, public)
    found = {k: c if k in drawn else c.model_copy(update={"agreement": None}) for k, c in found.items()}
    return look.model_copy(update={"routing": _of(look.routing, public), "consistency": found})


def _experts(use: ExpertUse, public: Publishable, few: int) -> ExpertUse:
    """Compute `ExpertUse.apart` from published groups only; otherwise it would reveal the others' experts."""
    of = _of(use.of, public)
    among = {k: np.array(share_E) for k, share_E in of.items() if use.n[k] >= few}
    return use.model_copy(update={"n": _of(use.n, public), "of": of, "apart": apart(among)})


def _value(value: ModalityValue, public: Publishable) -> ModalityValue:
    """Hide whether a suppressed group was trained on: this would reveal whether it has patients."""
    return value if value.smaller in public.groups else value.model_copy(update={"known": None})
