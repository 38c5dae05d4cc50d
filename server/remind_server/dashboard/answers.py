"""Scores of a set of patients in the answers of the dashboard: numbers, withheld, or undefined."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from remind.metrics.score import extended, names_of
from remind.metrics.scores import BOUNDS, EVERY, SCORES, WITH_INTERVAL

Patients = Literal["validation", "test"]
if TYPE_CHECKING:
    ScoreName = str
else:
    ScoreName = Literal[WITH_INTERVAL]
Numbers = list[float | None]
Counts = list[int | None]


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval. The ends are null if they are unknown, as for a run imported from its folder."""

    value: float
    low: float | None
    high: float | None


OTHERS = frozenset(names_of({name: score for name, score in EVERY.items() if name not in SCORES}))


def without_others(found: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers without those of other outcomes than classes that are not known."""
    return {name: value for name, value in found.items() if value or name not in OTHERS or value == 0}


@dataclass(frozen=True)
class PatientScores:
    """Scores of a set of patients.

    If `withheld` is set, only the number of patients is shown. If `suppressed` is set, nothing is shown. Either
    protects small groups. Otherwise, null means 'undefined', and n = 0 means no patients. `sites_withholding` counts
    the sites that train on the group but report nothing about these patients, because they have fewer than their
    minimum, or none (for all groups together: sites × groups). The numbers then cover the other sites; if there are
    no other sites, the cell is `suppressed`.
    """

    n: int | None
    positives: int | None = None
    suppressed: bool = False
    withheld: bool = False
    gate_open: float | None = None
    sites_withholding: int = 0

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # a field for each score, and for its bound

    @model_serializer(mode="wrap")
    def _without_others(self, handler: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]  # else no schema
        """Leave out scores of other outcomes: those of classes, null, are in every answer."""
        return without_others(handler(self))


PatientScores = extended(  # type: ignore[misc]
    PatientScores,
    {name: (Estimate | None if score.interval else float | None, None) for name, score in EVERY.items()}
    | dict.fromkeys(BOUNDS, (float | None, None)),
)


NO_PATIENTS = PatientScores(n=0)
