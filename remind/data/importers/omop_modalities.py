"""What is known of a visit at its index time, from the tables of an OMOP CDM.

Rows belong to a visit by person and time, not by ``visit_occurrence_id``, which many exports leave empty. Letters:
N examples, R rows of a table.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remind.data.importers.common import cells, observations, write_table
from remind.data.importers.omop_mapping import Codes, Item, Modality, Notes, Person, Series
from remind.data.importers.omop_visits import LeftOut
from remind.data.importers.release import NUMBER, TEXT, TIME, WHOLE, ReleaseFile

COLUMNS: dict[str, dict[str, Any]] = {
    "person": {"person_id": WHOLE, "gender_concept_id": WHOLE, "year_of_birth": WHOLE},
    "measurement": {
        "person_id": WHOLE,
        "measurement_concept_id": WHOLE,
        "measurement_datetime": TIME,
        "value_as_number": NUMBER,
    },
    "drug_exposure": {"person_id": WHOLE, "drug_concept_id": WHOLE, "drug_exposure_start_date": TIME},
    "condition_occurrence": {
        "person_id": WHOLE,
        "condition_concept_id": WHOLE,
        "condition_start_date": TIME,
        "visit_occurrence_id": WHOLE,
    },
    "note": {"person_id": WHOLE, "note_date": TIME, "note_type_concept_id": WHOLE, "note_text": TEXT},
}
Files = Mapping[str, ReleaseFile]
Written = tuple[NDArray[np.bool_], dict[str, Any]]  # which examples have it, (N,), and its fields of cohort.toml


def times(table: pd.DataFrame, datetime: str, date: str) -> "pd.Series[Any]":
    """Return the times of a table: its datetime where there is one, else the beginning of the date."""
    if datetime not in table:
        return table[date]
    return table[datetime].where(table[datetime].notna(), table[date])


def write(folder: Path, name: str, asked: Modality, files: Files, examples: pd.DataFrame, left_out: LeftOut) -> Written:
    """Write ``<name>.parquet`` of a modality."""
    if isinstance(asked, Series):
        columns, fields = _series(asked, files["measurement"], examples, left_out, name)
    elif isinstance(asked, Codes):
        columns, fields = _codes(asked, files[asked.table], examples)
    elif isinstance(asked, Notes):
        columns, fields = _notes(asked, files["note"], examples)
    else:
        columns, fields = _person(asked, files["person"], examples)
    write_table(folder, name, columns)
    has_N: NDArray[np.bool_] = examples["id"].isin(set(columns["patient_id"])).to_numpy()
    return has_N, fields


def conditions_of(files: Files, examples: pd.DataFrame) -> pd.DataFrame:
    """Return ``visit`` and ``concept`` of the conditions of these visits; none without the table."""
    if "condition_occurrence" not in files:
        return pd.DataFrame({"visit": [], "concept": []})
    parts = []
    for rows in _parts(files["condition_occurrence"]):
        mine = rows[rows["visit_occurrence_id"].isin(set(examples["id"]))]
        parts.append(pd.DataFrame({"visit": mine["visit_occurrence_id"], "concept": mine["condition_concept_id"]}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"visit": [], "concept": []})


def _parts(file: ReleaseFile) -> Iterator[pd.DataFrame]:
    for batch in file.batches():
        yield batch.to_pandas()


def _joined(rows: pd.DataFrame, time: "pd.Series[Any]", examples: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each example's person with ``time``, once for each of the person's examples."""
    rows = rows.assign(time=time).dropna(subset=["person_id", "time"])
    return rows.merge(examples[["id", "person", "start", "index"]], left_on="person_id", right_on="person")


def _series(
    asked: Series, file: ReleaseFile, examples: pd.DataFrame, left_out: LeftOut, name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    item_of = {concept: item for item, own in asked.items.items() for concept in own.concepts}
    counts = dict.fromkeys(("without a number", "of another unit", "outside the bounds of their item"), 0)
    parts = []
    for part in _parts(file):
        rows = part[part["measurement_concept_id"].isin(item_of)]
        found = _joined(rows, rows["measurement_datetime"], examples)
        found = found[(found["time"] >= found["start"]) & (found["time"] <= found["index"])]
        found = found.assign(item=found["measurement_concept_id"].map(item_of))
        for item, own in found.groupby("item"):
            parts.append(_values(own, asked.items[str(item)], counts))
    left_out += [(f"{name}: values {why}", n) for why, n in counts.items()]
    hours = _hours(examples["start"], examples["index"]).max()
    return observations(parts), {"kind": "series", "items": tuple(asked.items), "horizon": float(hours)}


def _values(rows: pd.DataFrame, item: Item, counts: dict[str, int]) -> pd.DataFrame:
    """Return the observations of an item in its unit; counts what is left out."""
    value_R = rows["value_as_number"].to_numpy(dtype=np.float64)
    empty_R = np.isnan(value_R)
    foreign_R = np.zeros(len(rows), dtype=bool)
    if item.units and "unit_concept_id" in rows:
        unit = rows["unit_concept_id"].fillna(0).astype("int64")
        factor_R = unit.map({0: 1.0} | {int(k): v for k, v in item.units.items()}).to_numpy(dtype=np.float64)
        foreign_R = np.isnan(factor_R) & ~empty_R
        value_R = value_R * factor_R
    low, high = -np.inf if item.low is None else item.low, np.inf if item.high is None else item.high
    beyond_R = ~empty_R & ~foreign_R & ((value_R < low) | (value_R > high))
    for why, lost_R in zip(counts, (empty_R, foreign_R, beyond_R), strict=True):
        counts[why] += int(lost_R.sum())
    keep_R = ~(empty_R | foreign_R | beyond_R)
    hours = _hours(rows["start"], rows["time"])
    found = pd.DataFrame({"id": rows["id"], "time": hours, "item": rows["item"], "value": value_R})
    kept: pd.DataFrame = found[keep_R]
    return kept


def _codes(asked: Codes, file: ReleaseFile, examples: pd.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    drugs = asked.table == "drug_exposure"
    concept = "drug_concept_id" if drugs else "condition_concept_id"
    parts = []
    for part in _parts(file):
        rows = part[part[concept].isin(asked.vocabulary) if asked.vocabulary else part[concept].gt(0)]
        time = times(rows, "drug_exposure_start_datetime", "drug_exposure_start_date") if drugs else None
        found = _joined(rows, rows["condition_start_date"] if time is None else time, examples)
        if drugs:
            found = found[(found["time"] >= found["start"].dt.normalize()) & (found["time"] <= found["index"])]
        else:
            found = found[found["time"] < found["start"].dt.normalize()]
            found = found[found["visit_occurrence_id"] != found["id"]]
        parts.append(found[["id", concept]])
    whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["id", concept])
    whole = whole.drop_duplicates().sort_values(["id", concept])
    columns = {
        "patient_id": whole["id"].astype("int64").to_numpy(),
        "code": [str(int(one)) for one in whole[concept]],
    }
    fields: dict[str, Any] = {"kind": "codes"}
    return columns, fields | ({"vocabulary": tuple(map(str, asked.vocabulary))} if asked.vocabulary else {})


def _notes(asked: Notes, file: ReleaseFile, examples: pd.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    """Notes with a time of the visit; one that has only a date counts from the next day on."""
    parts = []
    for part in _parts(file):
        wanted_R = part["note_text"].notna()
        rows = part[wanted_R & part["note_type_concept_id"].isin(asked.concepts)] if asked.concepts else part[wanted_R]
        late = rows["note_date"] + pd.Timedelta(days=1)
        time = rows["note_datetime"].where(rows["note_datetime"].notna(), late) if "note_datetime" in rows else late
        found = _joined(rows, time, examples)
        found = found[(found["time"] >= found["start"]) & (found["time"] <= found["index"])]
        found = found.assign(before=_hours(found["time"], found["index"]))
        parts.append(found[["id", "before", "note_text"]])
    whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["id", "before", "note_text"])
    whole = whole.sort_values(["id", "before"], kind="stable")
    columns = {
        "patient_id": whole["id"].astype("int64").to_numpy(),
        "text": whole["note_text"].tolist(),
        "hours_before": whole["before"].astype("float64").to_numpy(),
    }
    return columns, {"kind": "text", "order": "hours_before"}


def _person(asked: Person, file: ReleaseFile, examples: pd.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    del asked
    table = file.frame().drop_duplicates("person_id").set_index("person_id")
    found = examples.join(table, on="person")
    age = found["start"].dt.year - found["year_of_birth"]
    gender = found["gender_concept_id"].map(GENDERS)
    known_N = age.notna() | gender.notna()
    columns = {
        "patient_id": found.loc[known_N, "id"].tolist(),
        "age": cells(age[known_N]),
        "gender": cells(gender[known_N]),
    }
    fields = {"kind": "table", "columns": ("age", "gender"), "categories": {"gender": tuple(GENDERS.values())}}
    return columns, fields


GENDERS = {8507: "male", 8532: "female"}


def _hours(since: "pd.Series[Any]", until: "pd.Series[Any]") -> "pd.Series[float]":
    """Return the hours between the times of two columns."""
    return (until - since).dt.total_seconds() / 3600
