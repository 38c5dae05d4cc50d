"""The schema that all sites of a federation must share: classes, and a record of each modality by its kind.

File names, id columns and the cohort's name may differ between sites and are not part of it.
"""

import hashlib
import json
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, SerializerFunctionWrapHandler, model_serializer

from remind.data.cohort.declaration import CohortFile
from remind.data.cohort.kind import kinds
from remind.data.cohort.modality_schema import ModalitySchema, Shared
from remind.data.cohort.problems import listed
from remind.former_names import moved
from remind.outcomes.base import Outcome, outcomes
from remind.outcomes.classes import Classes

__all__ = ["CohortFile", "CohortSchema", "ModalitySchema", "difference"]


__getattr__ = moved(
    __name__,
    {
        "remind.data.cohort.kinds.table": "TableSchema",
        "remind.data.cohort.kinds.series_schema": "SeriesSchema",
        "remind.data.cohort.kinds.pictures": "ImageSchema VolumeSchema",
        "remind.data.cohort.kinds.text": "TextSchema",
        "remind.data.cohort.kinds.codes": "CodesSchema",
    },
)


def _of_its_kind(value: Any) -> Any:
    """Read a modality's record by its kind; pydantic reports what is no such record."""
    if isinstance(value, ModalitySchema):
        return value
    kind = kinds().get(str(value.get("kind"))) if isinstance(value, dict) else None
    if kind is None:
        raise ValueError(f"the kind of a modality is not known here ({listed(kinds())}); install what brings it")
    return kind.schema.model_validate(value)


def _of_its_outcome(value: Any) -> Any:
    """Read the record of an outcome by its kind; pydantic reports what is no such record."""
    if value is None or isinstance(value, Outcome):
        return value
    outcome = outcomes().get(str(value.get("kind"))) if isinstance(value, dict) else None
    if outcome is None:
        raise ValueError(f"the outcome is not known here ({listed(outcomes())}); install what brings it")
    return outcome.model_validate(value)


def label_fields(outcome: Outcome) -> dict[str, Any]:
    """Return the fields of a schema with this outcome."""
    classes = outcome.strata if outcome.by_class else ()
    return {"classes": classes} if isinstance(outcome, Classes) else {"classes": classes, "outcome": outcome}


class CohortSchema(Shared):
    """Outcome and modalities of a cohort; the order of `modalities` is the bit order of the groups.

    Attributes
    ----------
    classes
        Of an outcome with classes; empty for any other.
    outcome
        What is predicted; None: one of the classes, without an order. It is then in no record, so that fingerprints
        are those of the time when nothing else could be predicted.
    """

    name: str
    classes: tuple[str, ...]
    modalities: tuple[Annotated[SerializeAsAny[ModalitySchema], BeforeValidator(_of_its_kind)], ...]
    outcome: Annotated[SerializeAsAny[Outcome] | None, BeforeValidator(_of_its_outcome)] = None

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if key != "outcome" or value is not None}

    @property
    def predicts(self) -> Outcome:
        """What is predicted."""
        return Classes(classes=self.classes) if self.outcome is None else self.outcome

    @property
    def strata(self) -> tuple[str, ...]:
        """Names of what `Cohort.label_N` numbers: the classes, or ranges of another outcome."""
        return self.classes if self.outcome is None else self.outcome.strata

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the m modalities, in bit order."""
        return tuple(m.name for m in self.modalities)

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the canonical JSON of everything that sites must share."""
        shared = self.describe()
        del shared["name"]
        return hashlib.sha256(json.dumps(shared, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return JSON-able content that ``CohortSchema.model_validate`` reads back."""
        return self.model_dump(mode="json")


def difference(a: CohortSchema, b: CohortSchema) -> list[str]:
    """Describe how two schemas differ, `a`'s side first; empty exactly if their fingerprints are equal."""
    lines = []
    if a.predicts.kind != b.predicts.kind:
        lines.append(f"outcome: {a.predicts.kind} against {b.predicts.kind}")
    elif a.classes == b.classes and a.outcome is not None and b.outcome is not None:
        lines += [
            f"outcome, {field}: {value} against {getattr(b.outcome, field)}"
            for field, value in a.outcome
            if value != getattr(b.outcome, field)
        ]
    if a.classes != b.classes and a.predicts.by_class and b.predicts.by_class:
        lines.append(f"classes: {listed(a.classes)} against {listed(b.classes)}")
    if set(a.names) != set(b.names):
        lines.append(f"modalities: {_sets(a.names, b.names)}")
    elif a.names != b.names:
        lines.append(f"order of the modalities: {listed(a.names)} against {listed(b.names)}")
    of_b = {modality.name: modality for modality in b.modalities}
    for ours in a.modalities:
        if ours.name in of_b:
            lines += _modality_difference(ours, of_b[ours.name])
    return lines


def _modality_difference(a: ModalitySchema, b: ModalitySchema) -> list[str]:
    if a.kind != b.kind:
        return [f"{a.name}: kind {a.kind} against {b.kind}"]
    lines = []
    for field in type(a).model_fields:
        ours, theirs = getattr(a, field), getattr(b, field)
        if ours == theirs:
            continue
        if isinstance(ours, tuple):
            same = set(ours) == set(theirs)
            words = f"order {listed(ours)} against {listed(theirs)}" if same else _sets(ours, theirs)
            lines.append(f"{a.name}, {field}: {words}")
        elif isinstance(ours, dict):
            lines += [
                f"{a.name}, {field} of {key}: {_shown(ours.get(key))} against {_shown(theirs.get(key))}"
                for key in dict.fromkeys([*ours, *theirs])
                if ours.get(key) != theirs.get(key)
            ]
        else:
            lines.append(f"{a.name}, {field}: {ours} against {theirs}")
    return lines


def _sets(a: tuple[str, ...], b: tuple[str, ...]) -> str:
    parts = [
        ("only the first has", [x for x in a if x not in b]),
        ("only the second has", [x for x in b if x not in a]),
    ]
    return "; ".join(f"{words} {listed(names)}" for words, names in parts if names)


def _shown(value: Any) -> str:
    return "none" if value is None else listed(value) if isinstance(value, tuple) else str(value)
