"""Scores of a set of patients in the answers of the dashboard: numbers, withheld, or undefined."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from remind.metrics.score import extended
from remind.metrics.scores import BOUNDS, SCORES, WITH_INTERVAL

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


@dataclass(frozen=True)
class Measured:
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


Measured = extended(  # type: ignore[misc]
    Measured,
    {name: (Estimate | None if score.interval else float | None, None) for name, score in SCORES.items()}
    | dict.fromkeys(BOUNDS, (float | None, None)),
)


NO_PATIENTS = Measured(n=0)
