"""Settings of imports of MIMIC-IV in tests, and what stands in the cohorts that were written."""

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from remind.data.importers.mimic_iv import import_mimic
from remind.data.importers.mimic_settings import MimicSettings

DAY = timedelta(days=1)


def settings(root, out="cohort", label="48h", **options):
    folders = {"hosp": root / "hosp", "icu": root / "icu", "note": root / "note", "out": root / out}
    return MimicSettings(**{**folders, "label": label, **options})


def found(folder):
    """What stands in the files of a cohort with series and codes, by stay."""
    patients = pd.read_parquet(folder / "patients.parquet")
    what: dict[Any, dict[str, Any]] = {
        row.patient_id: {
            "died": row.label == "died",
            "person": row.person,
            "labs": set(),
            "notes": set(),
            "codes": set(),
        }
        for row in patients.itertuples()
    }
    for row in rows(folder, "labs"):
        what[row.patient_id]["labs"].add((row.item, round(row.time, 3), round(row.value, 3)))
    for row in rows(folder, "notes"):
        what[row.patient_id]["notes"].add((row.text, round(row.hours_before, 3)))
    for row in rows(folder, "codes"):
        what[row.patient_id]["codes"].add(row.code)
    return what


def rows(folder, name):
    path = folder / f"{name}.parquet"
    return (
        pd.read_parquet(path).astype({"time": float, "value": float} if name == "labs" else {}).itertuples()
        if (path.exists())
        else ()
    )


def close(one, other):
    """Equal but for the rounding of float32."""
    assert one.keys() == other.keys()
    for stay, what in one.items():
        assert {k: v for k, v in what.items() if k != "labs"} == {k: v for k, v in other[stay].items() if k != "labs"}
        assert len(what["labs"]) == len(other[stay]["labs"])
        for mine, theirs in zip(sorted(what["labs"]), sorted(other[stay]["labs"]), strict=True):
            assert mine[0] == theirs[0]
            assert mine[1:] == pytest.approx(theirs[1:], abs=2e-3)


def label_of(release, tmp_path, label="48h", name="one"):
    root = release.write(tmp_path / name)
    import_mimic(settings(root, label=label))
    patients = pd.read_parquet(root / "cohort" / "patients.parquet")
    return dict(zip(patients.patient_id, patients.label, strict=True))
