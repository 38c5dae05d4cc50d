"""Visits of an OMOP CDM that are examples, and their outcome. Letters: N examples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remind.data.importers.omop_mapping import Label, Visits
from remind.errors import several
from remind.outcomes.base import LabelSection, outcomes

DAY = pd.Timedelta(days=1)
LeftOut = list[tuple[str, int]]


@dataclass(frozen=True)
class Outcome:
    """The outcome of the examples: the section [label], and the columns of the patients file that it names."""

    section: LabelSection
    columns: dict[str, list[Any]]

    def strata(self) -> NDArray[np.int64]:
        """Return the stratum of each example, as the cohort will have it."""
        codes = []
        for column in self.section.columns:
            values = self.columns[column.name]
            names = column.names
            codes.append(np.array(values, dtype=float) if names is None else np.array([names.index(v) for v in values]))
        return self.section.outcome.encode(codes).label_R


def find_visits(visits: pd.DataFrame, died: pd.Series, asked: Visits, left_out: LeftOut) -> pd.DataFrame:
    """Return the visits that are examples: id, person, start, end, index and death, ordered by person and start.

    A visit is left out if it has no end, ended before the index time, or if the person died before it.

    Parameters
    ----------
    visits
        ``id``, ``person``, ``concept``, ``start``, ``end`` and perhaps ``site``.
    died
        Time of death by person.
    """
    found = visits[visits["concept"].isin(asked.concepts)].sort_values(["person", "start", "id"])
    left_out.append(("visits of other concepts", len(visits) - len(found)))
    open_N = found["end"].isna() | found["start"].isna()
    left_out.append(("visits without a start or an end", int(open_N.sum())))
    found = found[~open_N].copy()
    found["index"] = found["start"] + pd.Timedelta(hours=asked.hours)
    found["death"] = found["person"].map(died)
    if asked.first:
        again_N = found["person"].duplicated()
        left_out.append(("later visits of a person", int(again_N.sum())))
        found = found[~again_N]
    over_N = found["end"] < found["index"]
    left_out.append(("visits that ended before the index time", int(over_N.sum())))
    dead_N = ~over_N & (found["death"] < found["index"])
    left_out.append(("visits of persons who died before the index time", int(dead_N.sum())))
    kept = found[~over_N & ~dead_N].reset_index(drop=True)
    if kept.empty:
        reasons = [f"{what}: {n}" for what, n in left_out if n] or ["the table visit_occurrence has no rows"]
        raise several("no visit is left to predict; see [visits] of the mapping", reasons)
    return kept


def outcome_of(
    label: Label, examples: pd.DataFrame, visits: pd.DataFrame, asked: Visits, conditions: pd.DataFrame
) -> Outcome:
    """Return the outcome of each example.

    Parameters
    ----------
    visits
        All visits, for readmissions.
    conditions
        ``visit`` and ``concept`` of conditions of the examples' visits.
    """
    death, end = examples["death"], examples["end"]
    inside_N = (death <= end.where(end != end.dt.normalize(), end + DAY)).to_numpy()  # a date means its whole day
    kinds = {name: own.section for name, own in outcomes().items()}
    if label.kind == "length-of-stay":
        left = end.where(~inside_N, death.where(death < end, end))
        days_N = (left - examples["start"]).dt.total_seconds().to_numpy() / 86400
        section = kinds["survival"].model_validate(
            {"kind": "survival", "events": ("died", "left"), "edges": label.edges, "unit": "days"}
        )
        events = ["died" if one else "left" for one in inside_N.tolist()]
        return Outcome(section, {"time": days_N.tolist(), "event": events})
    if label.kind == "conditions":
        section = kinds["multilabel"].model_validate({"kind": "multilabel", "labels": tuple(label.conditions)})
        of = {
            name: set(conditions.loc[conditions["concept"].isin(concepts), "visit"])
            for name, concepts in label.conditions.items()
        }
        columns = {name: _yes([visit in mine for visit in examples["id"]]) for name, mine in of.items()}
        return Outcome(section, columns)
    if label.kind == "death":
        holds = inside_N.tolist()
    elif label.kind == "death-later":
        holds = (death <= examples["index"] + label.days * DAY).tolist()
    else:
        holds = _readmitted(examples, visits, asked, label.days)
    section = kinds["classes"].model_validate({"classes": ("no", "yes")})
    return Outcome(section, {"label": _yes(holds)})


def discharged(label: Label, examples: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which examples can have the outcome at all: readmissions only of those who left alive, (N,)."""
    if label.kind != "readmission":
        return np.ones(len(examples), dtype=bool)
    end = examples["end"]
    alive_N: NDArray[np.bool_] = ~(examples["death"] <= end.where(end != end.dt.normalize(), end + DAY)).to_numpy()
    return alive_N


def _readmitted(examples: pd.DataFrame, visits: pd.DataFrame, asked: Visits, days: int) -> list[bool]:
    starts = visits[visits["concept"].isin(asked.concepts)].dropna(subset=["start"])
    of = {person: np.sort(own.to_numpy()) for person, own in starts.groupby("person")["start"]}
    found = []
    for person, end in zip(examples["person"], examples["end"], strict=True):
        later = of[person][np.searchsorted(of[person], np.datetime64(end), side="right") :]
        found.append(bool(len(later)) and bool(later[0] <= np.datetime64(end + days * DAY)))
    return found


def _yes(holds: list[bool]) -> list[str]:
    return ["yes" if one else "no" for one in holds]
