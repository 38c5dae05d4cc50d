"""Notes of MIMIC-IV, restricted to what was known at the index time. Letters: R rows of a block, N examples."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from remind.data.importers.mimic_labs import whole_seconds
from remind.data.importers.mimic_settings import NotesRule
from remind.data.importers.mimic_stays import HOUR, Stays, seconds
from remind.data.importers.release import TEXT, TIME, WHOLE, ReleaseFile

NOTES = {"hadm_id": WHOLE, "charttime": TIME, "storetime": TIME, "text": TEXT}
RADIOLOGY, DISCHARGE = "radiology", "discharge"  # files of the release


@dataclass(frozen=True)
class Wanted:
    """The notes to take from one file.

    Attributes
    ----------
    pairs
        Columns hadm_id, stay: the admission whose notes are given to the stay (its position).
    known
        Whether a note must have been stored by the stay's index time.
    """

    pairs: pd.DataFrame
    known: bool


def needed_files(rule: NotesRule) -> tuple[str, ...]:
    """Return the files of the release that `rule` requires."""
    return (RADIOLOGY,) if rule == "radiology" else (RADIOLOGY, DISCHARGE)


def wanted_notes(rule: NotesRule, stays: Stays, before: pd.DataFrame) -> dict[str, Wanted]:
    """Return which notes of which file `rule` asks for.

    ``radiology``: reports of this admission that were stored by the index time. ``history``: these, and the summary of
    the last earlier admission. ``discharge``: reports, and this admission's summary, whenever it was stored.

    Parameters
    ----------
    before
        From `earlier_admissions`.
    """
    this = pd.DataFrame({"hadm_id": stays.admission_N, "stay": np.arange(len(stays))})
    wanted = {RADIOLOGY: Wanted(this, known=True)}
    if rule == "history":
        last = before.sort_values("discharged", kind="stable").drop_duplicates("stay", keep="last")
        wanted[DISCHARGE] = Wanted(last[["hadm_id", "stay"]], known=True)
    if rule == "discharge":
        wanted[DISCHARGE] = Wanted(this, known=False)
    return wanted


def earlier_admissions(admissions: pd.DataFrame, stays: Stays) -> pd.DataFrame:
    """Return the admissions that ended before a stay's own admission began.

    Columns: hadm_id, stay (its position), discharged (second).
    """
    ended = pd.DataFrame(
        {
            "subject_id": admissions["subject_id"],
            "hadm_id": admissions["hadm_id"],
            "discharged": seconds(admissions["dischtime"]),
        }
    ).dropna()
    own = {"subject_id": stays.subject_N, "own": stays.admission_N, "admitted": stays.admitted_N}
    both = pd.DataFrame({**own, "stay": np.arange(len(stays))}).merge(ended, on="subject_id")
    before = both[(both["discharged"] <= both["admitted"]) & (both["hadm_id"] != both["own"])]
    return before[["hadm_id", "stay", "discharged"]]


def write_notes(
    path: Path, files: Mapping[str, ReleaseFile], wanted: Mapping[str, Wanted], stays: Stays
) -> tuple[NDArray[np.bool_], int]:
    """Write a text modality, one row per note; column ``hours_before`` (the index time) sorts the newest note first.

    Returns
    -------
    has_N
        Which examples have it, (N,).
    late
        Number of notes left out because they were stored after the index time, or at an unknown time.
    """
    schema = pa.schema([("patient_id", pa.int64()), ("hours_before", pa.float64()), ("text", pa.string())])
    has_N, late = np.zeros(len(stays), dtype=bool), 0
    with pa.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for name, file in files.items():
            for stay_R, hours_R, text, dropped in _notes(file, wanted[name], stays):
                late += dropped
                has_N[stay_R] = True
                writer.write_table(pa.table([stays.id_N[stay_R], hours_R, text], schema=schema))
    return has_N, late


def _notes(file: ReleaseFile, wanted: Wanted, stays: Stays) -> Iterator[tuple[Any, Any, Any, int]]:
    """Yield per block: stay and hours before its index time, (R,), the texts, and the number of late notes."""
    admissions = pa.array(wanted.pairs["hadm_id"].unique())
    for block in file.batches():
        rows = block.filter(pc.is_in(block["hadm_id"], value_set=admissions))
        rows = rows.filter(pc.is_valid(rows["text"]))
        if not rows.num_rows:
            continue
        position = pd.DataFrame({"hadm_id": rows["hadm_id"].to_pandas(), "row": np.arange(rows.num_rows)})
        pairs = position.merge(wanted.pairs, on="hadm_id")
        row_R, stay_R = pairs["row"].to_numpy(), pairs["stay"].to_numpy()
        index_R = stays.index_N[stay_R]
        charted_R = whole_seconds(rows["charttime"])[row_R]
        stored_R = whole_seconds(rows["storetime"])[row_R]
        known_R = (charted_R <= index_R) & (stored_R <= index_R) & (stored_R > 0) if wanted.known else charted_R > 0
        hours_R = (index_R - charted_R) / HOUR
        text = rows["text"].take(pa.array(row_R[known_R]))
        yield stay_R[known_R], hours_R[known_R], text, int((~known_R).sum())
