"""Cohorts of other outcomes than classes from columns of the real cohorts; see docs/studies.md.

    python benchmarks/outcome_cohorts.py FOLDER [--data DATA]

writes two cohorts, each a patients file and a cohort.toml that refers to the data where it is:

- ``nhanes_hba1c``: HbA1c in % (regression). The modality hba1c, which is the outcome, is left out; patients without a
  measurement have no label and are dropped.
- ``cinc2012_stay``: days in hospital (survival). The event is leaving alive; a death censors. Stays of unknown length
  (−1), and those that ended within the 48 hours that are read, have no label and are dropped.
"""

import argparse
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from remind.config_toml import literal

HERE = Path(__file__).parent
DECLARED = HERE.parent / "simulation/cohorts"
DATA = HERE.parent.parent / "shared/data"
READ = 2.0  # days of a stay that the inputs of cinc2012_icu come from


def nhanes(data: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the declaration and the patients of ``nhanes_hba1c``."""
    declared = _declared("nhanes_2017_2020")
    del declared["modalities"]["hba1c"]
    label = {"kind": "regression", "column": "LBXGH", "range": [2, 20], "mean": 5.8, "scale": 1.0, "unit": "%"}
    label["missing"] = "drop"
    folder = data / "nhanes_2017_2020"
    measured = pd.read_parquet(folder / "hba1c.parquet").dropna()
    patients = pd.read_csv(folder / "patients.csv", usecols=["pid", "site_group8"])
    return declared | {"name": "nhanes_hba1c", "label": label}, patients.merge(measured, how="left", on="pid")


def cinc(data: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the declaration and the patients of ``cinc2012_stay``."""
    declared = _declared("cinc2012_icu")
    label = {
        "kind": "survival",
        "time": "los_d",
        "event": "left",
        "edges": [4, 6, 8, 10, 14, 21, 30],
        "unit": "days",
        "missing": "drop",
    }
    patients = pd.read_csv(data / "cinc2012_icu/patients.csv", usecols=["pid", "site", "los_d", "label"])
    patients["left"] = patients.pop("label").map({0: "yes", 1: "no"})
    patients.loc[patients["los_d"] <= READ, ["los_d", "left"]] = None
    return declared | {"name": "cinc2012_stay", "label": label}, patients


def write(folder: Path, data: Path, declared: dict[str, Any], patients: pd.DataFrame) -> Path:
    """Write a cohort's folder; modalities stay where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    patients.to_csv(folder / "patients.csv", index=False)
    root = data / Path(declared["root"]).name
    declared = declared | {"root": str(root.resolve())}
    declared["patients"] = declared["patients"] | {"file": str((folder / "patients.csv").resolve())}
    (folder / "cohort.toml").write_text("\n".join([*_lines(declared), ""]), encoding="utf-8")
    return folder


def _declared(name: str) -> dict[str, Any]:
    return tomllib.loads((DECLARED / f"{name}.toml").read_text(encoding="utf-8"))


def _lines(table: dict[str, Any], path: str = "") -> list[str]:
    """Return a table as TOML: its values, then its tables."""
    lines = [f"{key} = {_value(v)}" for key, v in table.items() if not isinstance(v, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{path}{key}]", *_lines(value, f"{path}{key}.")]
    return lines


def _value(value: Any) -> str:
    return "[" + ", ".join(map(_value, value)) + "]" if isinstance(value, list) else literal(value)


def main() -> None:
    """Write both cohorts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the cohorts are written")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the real cohorts")
    given = parser.parse_args()
    for make in (nhanes, cinc):
        declared, patients = make(given.data)
        print(write(given.folder / declared["name"], given.data, declared, patients))


if __name__ == "__main__":
    main()
