"""Examples of MIMIC-IV: whose outcome is predicted, at what time, and the outcome.

Letters: N examples, R rows of some file.

An example is a stay in intensive care (without the icu module: a hospital admission). Only data that was
known by its **index time** may be used:

===========  ==========================  =======================================================================
label        index time                  died
===========  ==========================  =======================================================================
48h          start + hours               within 48 h after the index time, wherever
in-hospital  start + hours               in this hospital admission, after the index time
one-year     discharge from hospital     within 365 days after the index time; a stay that ends with death is no example
===========  ==========================  =======================================================================

``readmission`` has the examples and the index time of ``one-year``; its outcome is another hospital admission of the
person within 30 days. ``length-of-stay`` has those of ``in-hospital``; its outcome is the time from the stay's start
until it is left, where a death within the stay censors. ``phenotypes`` has them too; its labels are in
`mimic_phenotypes`.

All times are whole seconds since 1970.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remind.data.importers.mimic_settings import AT_DISCHARGE, Label
from remind.data.importers.release import TEXT, TIME, WHOLE

PATIENTS = {"subject_id": WHOLE, "dod": TIME}
ADMISSIONS = {
    "subject_id": WHOLE,
    "hadm_id": WHOLE,
    "admittime": TIME,
    "dischtime": TIME,
    "deathtime": TIME,
    "hospital_expire_flag": WHOLE,
}
ICU_STAYS = {
    "subject_id": WHOLE,
    "hadm_id": WHOLE,
    "stay_id": WHOLE,
    "first_careunit": TEXT,
    "intime": TIME,
    "outtime": TIME,
}
HOUR, DAY = 3600, 86400
CLASSES = ("alive", "died")
RETURN = 30  # days
LeftOut = list[tuple[str, int]]
Integers = NDArray[np.int64]
_SPAN = 1 << 36  # more seconds than any time in MIMIC-IV, so that subject · span + time sorts by both


@dataclass(frozen=True)
class Stays:
    """N examples, by person and then by time.

    Attributes
    ----------
    id_N
        ``stay_id``, or ``hadm_id`` without the icu module.
    subject_N, admission_N
        Person and hospital admission.
    start_N, end_N
        Labs and vitals are taken between these times, both included.
    index_N
        Index time: data that became known later must not be used.
    admitted_N
        Start of the hospital admission.
    label_N
        0 alive, 1 died; of ``readmission`` 1 readmitted; of ``length-of-stay`` 1 left alive; of ``phenotypes`` 0.
    days_N
        Days from the stay's start until it was left, or the person died in it.
    unit_N
        First care unit; empty without the icu module.
    """

    id_N: Integers
    subject_N: Integers
    admission_N: Integers
    start_N: Integers
    end_N: Integers
    index_N: Integers
    admitted_N: Integers
    label_N: Integers
    days_N: NDArray[np.float64]
    unit_N: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.id_N)

    def take(self, keep_N: NDArray[np.bool_]) -> Self:
        """Select the stays under the mask."""
        return type(self)(**{field.name: getattr(self, field.name)[keep_N] for field in fields(self)})

    def at(self, subject_R: Integers, time_R: Integers) -> Integers:
        """Return the position of the stay whose start … end contains a person's time, (R,); −1 = none.

        If two stays of a person overlap, the one that began last is returned.
        """
        if not len(self):
            return np.full(len(subject_R), -1, dtype=np.int64)
        subjects, key_N = self._keys
        code_R = np.minimum(np.searchsorted(subjects, subject_R), len(subjects) - 1)
        known_R = (subjects[code_R] == subject_R) & (time_R >= 0)
        position_R = np.searchsorted(key_N, code_R * _SPAN + time_R, side="right") - 1
        inside_R = known_R & (position_R >= 0)
        inside_R &= (self.subject_N[position_R] == subject_R) & (time_R <= self.end_N[position_R])
        return np.where(inside_R, position_R, -1).astype(np.int64)

    @cached_property
    def _keys(self) -> tuple[Integers, Integers]:
        """Return the persons, ascending, and a number per stay, (N,), that ascends with person and start."""
        subjects, code_N = np.unique(self.subject_N, return_inverse=True)
        return subjects, code_N * _SPAN + self.start_N


def find_stays(
    patients: pd.DataFrame,
    admissions: pd.DataFrame,
    icu: pd.DataFrame | None,
    label: Label,
    hours: float,
    first: bool,
) -> tuple[Stays, LeftOut]:
    """Find the examples, and count the other stays by the first rule that each breaks.

    Parameters
    ----------
    patients, admissions, icu
        The tables of the release, with the columns above; without `icu`, admissions are the stays.
    hours
        Hours from a stay's start to the index time, where this is not the discharge; for all labels, how long labs and
        vitals are taken.
    first
        Whether to take only the first stay of each person.
    """
    rows = _rows(admissions, icu).merge(_deaths(patients, admissions), how="left", on="subject_id")
    start, discharge, death = rows["start"], rows["dischtime"], rows["death"]
    index = discharge if label in AT_DISCHARGE else start + round(hours * HOUR)
    leave = np.minimum(rows["leave"], discharge)
    rules: dict[str, Any] = {
        "stays of persons who are not in the patients table": ~rows["subject_id"].isin(patients["subject_id"]),
        "stays without an admission, or with times that are missing or in disorder": rows["disorder"],
        "later stays of a person of whom the first is taken": rows.duplicated("subject_id") & first,
    }
    if label in AT_DISCHARGE:
        rules["stays of admissions that ended with death: no discharge to predict from"] = rows["expired"]
        rules["deaths that are recorded before the discharge"] = death <= index
        rules["later stays of an admission of which the first is taken"] = rows.duplicated("hadm_id")
    else:
        rules[f"deaths before hour {hours:g}, the index time"] = death <= index
        rules[f"stays that ended before hour {hours:g}, the index time"] = leave < index
    keep = pd.Series(True, index=rows.index)
    out: LeftOut = []
    for what, breaks in rules.items():
        out.append((what, int((keep & breaks).sum())))
        keep &= ~breaks
    dead_inside = rows["expired"] & (death <= leave)
    ends = death.where(dead_inside, leave)
    holds: pd.Series[Any] = {
        "48h": (death > index) & (death <= index + 2 * DAY),
        "in-hospital": rows["expired"],
        "one-year": (death > index) & (death <= index + 365 * DAY),
        "readmission": _readmitted(rows, admissions),
        "length-of-stay": ~dead_inside,
        "phenotypes": pd.Series(False, index=rows.index),
    }[label]
    stays = Stays(
        id_N=_whole(rows["id"]),
        subject_N=_whole(rows["subject_id"]),
        admission_N=_whole(rows["hadm_id"]),
        start_N=_whole(start),
        end_N=_whole(np.minimum(start + round(hours * HOUR), index)),
        index_N=_whole(index),
        admitted_N=_whole(rows["admittime"]),
        label_N=_whole(holds.astype(int)),
        days_N=((ends - start) / DAY).fillna(0.0).to_numpy(dtype=np.float64),
        unit_N=rows["unit"].fillna("").to_numpy(dtype=np.str_),
    )
    return stays.take(keep.to_numpy(dtype=bool)), out


def _readmitted(rows: pd.DataFrame, admissions: pd.DataFrame) -> "pd.Series[Any]":
    """Return whether the person of each row was admitted again within `RETURN` days after the discharge."""
    starts = admissions.drop_duplicates("hadm_id").assign(again=seconds(admissions["admittime"]))
    later = (
        rows[["subject_id", "hadm_id", "dischtime"]]
        .reset_index()
        .merge(starts[["subject_id", "hadm_id", "again"]], on="subject_id", suffixes=("", "_again"))
    )
    gap = later["again"] - later["dischtime"]
    back = later.loc[(later["hadm_id"] != later["hadm_id_again"]) & (gap >= 0) & (gap <= RETURN * DAY), "index"]
    return pd.Series(rows.index.isin(set(back)), index=rows.index)


def knows_later_deaths(patients: pd.DataFrame, admissions: pd.DataFrame) -> bool:
    """Return whether any death outside the hospital is recorded; before version 2.0 none is."""
    inside = admissions.loc[(admissions["hospital_expire_flag"] == 1) | admissions["deathtime"].notna(), "subject_id"]
    return bool((patients["dod"].notna() & ~patients["subject_id"].isin(inside)).any())


def seconds(times: Any) -> Any:
    """Convert a column of times to seconds, NaN = none."""
    found = times.to_numpy(dtype="datetime64[s]")
    return pd.Series(np.where(np.isnat(found), np.nan, found.astype(np.int64)), index=times.index)


def _whole(column: Any) -> Integers:
    """Convert a column to whole numbers; gaps, whose values are never used, become −1."""
    found: Integers = column.fillna(-1).to_numpy(dtype=np.float64).astype(np.int64)
    return found


def _rows(admissions: pd.DataFrame, icu: pd.DataFrame | None) -> pd.DataFrame:
    """List the stays by person and start: id, subject_id, hadm_id, start, leave, admittime, dischtime, expired."""
    hospital = admissions.drop_duplicates("hadm_id").copy()
    hospital["admittime"], hospital["dischtime"] = seconds(hospital["admittime"]), seconds(hospital["dischtime"])
    hospital["expired"] = (hospital["hospital_expire_flag"] == 1) | hospital["deathtime"].notna()
    hospital = hospital[["subject_id", "hadm_id", "admittime", "dischtime", "expired"]]
    if icu is None:
        rows = hospital.assign(
            id=hospital["hadm_id"], start=hospital["admittime"], leave=hospital["dischtime"], unit=""
        )
    else:
        stays = pd.DataFrame(
            {
                "id": icu["stay_id"],
                "subject_id": icu["subject_id"],
                "hadm_id": icu["hadm_id"],
                "start": seconds(icu["intime"]),
                "leave": seconds(icu["outtime"]),
                "unit": icu["first_careunit"],
            }
        )
        rows = stays.merge(hospital, how="left", on=["subject_id", "hadm_id"])
    times = ["start", "leave", "admittime", "dischtime"]
    rows["disorder"] = rows[times].isna().any(axis=1) | (rows["leave"] < rows["start"]) | rows["id"].isna()
    rows["disorder"] |= (rows["dischtime"] < rows["admittime"]) | rows.duplicated("id")
    rows["expired"] = rows["expired"].fillna(False).astype(bool)
    return rows.sort_values(["subject_id", "start"], kind="stable", ignore_index=True)


def _deaths(patients: pd.DataFrame, admissions: pd.DataFrame) -> pd.DataFrame:
    """Return the second of each person's death: by the hospital's clock, else the last second of the registered day."""
    clock = admissions.assign(death=seconds(admissions["deathtime"])).groupby("subject_id")["death"].min()
    known = patients.drop_duplicates("subject_id").set_index("subject_id")
    day = np.floor(seconds(known["dod"]) / DAY) * DAY + DAY - 1
    death = clock.reindex(known.index).fillna(day)
    return death.rename("death").reset_index()
