"""Diagnoses of MIMIC-IV. They are coded after the discharge, so those of the stay itself reveal its outcome.

A code has the form ``10:I509``: its ICD version in two digits, a colon, and the code of the release. So equal codes of
versions 9 and 10 stay different, and the first six characters are the category.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from remind.data.importers.common import write_table
from remind.data.importers.mimic_settings import CodesRule
from remind.data.importers.mimic_stays import Stays
from remind.data.importers.release import TEXT, WHOLE, ReleaseFile

DIAGNOSES = {"hadm_id": WHOLE, "seq_num": WHOLE, "icd_code": TEXT, "icd_version": WHOLE}
TITLES = {"icd_code": TEXT, "icd_version": WHOLE, "long_title": TEXT}
PREFIX = 6
COLUMNS = ["stay", "code", "discharged", "seq_num"]


def wanted_codes(rule: CodesRule, stays: Stays, before: pd.DataFrame) -> pd.DataFrame:
    """Select the admissions that give codes to a stay.

    Columns: hadm_id, stay (its position), discharged (second; this admission last).

    `before` comes from `mimic_notes.earlier_admissions`.
    """
    this = pd.DataFrame({"hadm_id": stays.admission_N, "stay": np.arange(len(stays)), "discharged": np.inf})
    parts = {"previous": [before], "this": [this], "all": [before, this]}
    return pd.concat(parts[rule], ignore_index=True)


@dataclass(frozen=True)
class Diagnoses:
    """Codes of the stays: columns stay, code (position in `names`), discharged, seq_num; one row per stay and code.

    The newest admission comes first. Codes of one admission keep the order of the release.
    """

    rows: pd.DataFrame
    names: tuple[str, ...]

    def present(self, n: int) -> NDArray[np.bool_]:
        """Return which of the n stays have a code, (N,)."""
        has_N = np.zeros(n, dtype=bool)
        has_N[self.rows["stay"].to_numpy(dtype=np.int64)] = True
        return has_N


def find_codes(file: ReleaseFile, pairs: pd.DataFrame) -> Diagnoses:
    """Find the codes of the admissions in `pairs` (from `wanted_codes`)."""
    admissions = pa.array(pairs["hadm_id"].unique())
    number: dict[str, int] = {}
    parts = []
    for block in file.batches():
        rows = block.filter(pc.is_in(block["hadm_id"], value_set=admissions))
        rows = rows.filter(pc.and_(pc.is_valid(rows["icd_code"]), pc.is_valid(rows["icd_version"])))
        if not rows.num_rows:
            continue
        code_R = [number.setdefault(name, len(number)) for name in _names(rows)]
        found = pd.DataFrame({"hadm_id": rows["hadm_id"].to_pandas(), "code": code_R})
        found["seq_num"] = pc.fill_null(rows["seq_num"], 0).to_pandas().to_numpy()
        parts.append(_newest(found.merge(pairs, on="hadm_id")[COLUMNS]))
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS, dtype=np.int64)
    return Diagnoses(_newest(rows), tuple(number))


def _newest(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep each code of a stay once, from the last admission that has it.

    The codes of the last admission come first.
    """
    ranked = rows.sort_values(["stay", "discharged", "seq_num", "code"], ascending=[True, False, True, True])
    return ranked.drop_duplicates(["stay", "code"])


def write_codes(folder: Path, name: str, found: Diagnoses, stays: Stays) -> None:
    """Return a modality of codes."""
    rows, names = found.rows, pa.array(found.names, pa.string())
    code = pa.DictionaryArray.from_arrays(rows["code"].to_numpy(dtype=np.int32), names)
    write_table(folder, name, {"patient_id": stays.id_N[rows["stay"].to_numpy(dtype=np.int64)], "code": code})


def write_titles(folder: Path, name: str, found: Diagnoses, stays: Stays, titles: ReleaseFile) -> None:
    """Write the codes as a text modality: their long titles, the newest admission first.

    A code without a title is written as it is.
    """
    title_of = _titles(titles)
    words = np.array([title_of.get(name, name) for name in found.names], dtype=object)
    rows = found.rows.assign(title=words[found.rows["code"].to_numpy(dtype=np.int64)])
    text = rows.groupby("stay", sort=True)["title"].agg(". ".join)
    ids = stays.id_N[text.index.to_numpy(dtype=np.int64)]
    write_table(folder, name, {"patient_id": ids, "text": [f"{sentence}." for sentence in text]})


def _titles(file: ReleaseFile) -> Mapping[str, str]:
    table = pa.Table.from_batches(list(file.batches()), pa.schema(list(TITLES.items())))
    titles = table["long_title"].to_pylist()
    return {name: title.strip() for name, title in zip(_names(table), titles, strict=True) if name and title}


def _names(rows: Any) -> list[str]:
    """Return ``10:I509`` for each row; empty if the version or the code is missing."""
    versions, codes = rows["icd_version"].to_pylist(), rows["icd_code"].to_pylist()
    return [
        f"{version:02d}:{code.strip()}" if code and version is not None else ""
        for version, code in zip(versions, codes, strict=True)
    ]
