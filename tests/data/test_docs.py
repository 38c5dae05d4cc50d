"""The example of docs/cohorts.md is a cohort."""

import re
from pathlib import Path

from remind.data.check import check_cohort
from remind.data.declaration import CohortFile, LabelSection, PatientsSection, SeriesSection, SplitSection, TableSection

DOCS = (Path(__file__).parents[2] / "docs" / "cohorts.md").read_text(encoding="utf-8")


def test_the_example_reads(tmp_path):
    for name, text in re.findall(r"^`(\w+\.csv)`.*\n\n((?:    .+\n)+)", DOCS, flags=re.MULTILINE):
        (tmp_path / name).write_text(re.sub(r"^    ", "", text, flags=re.MULTILINE))
    toml = re.search(r"```toml\n(.*?)```", DOCS, flags=re.DOTALL)
    assert toml
    (tmp_path / "cohort.toml").write_text(toml.group(1))
    report = check_cohort(tmp_path)
    assert {(row.name, row.patients) for row in report.groups} == {("labs", 1), ("vitals", 1), ("labs+vitals", 1)}
    assert report.warnings == ()


def test_every_field_is_documented():
    for section in (CohortFile, PatientsSection, LabelSection, SplitSection, TableSection, SeriesSection):
        for field in section.model_fields:
            assert f"`{field}`" in DOCS or f"[{field}" in DOCS, field
