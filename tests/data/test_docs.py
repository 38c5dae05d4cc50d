"""The examples of docs/cohorts.md are valid cohorts, and the page has every field."""

import re
from pathlib import Path
from typing import Any

from remind.data.checks.check import check_cohort
from remind.data.cohort.declaration import CohortFile, PatientsSection, SplitSection, read_declaration
from remind.data.cohort.kind import kinds
from remind.outcomes.base import outcomes

DOCS = (Path(__file__).parents[2] / "docs" / "cohorts.md").read_text(encoding="utf-8")
FILES = re.findall(r"^`(\w+\.csv)`.*\n\n((?:    .+\n)+)", DOCS, flags=re.MULTILINE)
TOMLS = re.findall(r"```toml\n(.*?)```", DOCS, flags=re.DOTALL)


def write_examples(folder: Path, toml: str) -> None:
    for name, text in FILES:
        (folder / name).write_text(re.sub(r"^    ", "", text, flags=re.MULTILINE))
    (folder / "cohort.toml").write_text(toml)


def test_the_example_reads(tmp_path):
    write_examples(tmp_path, TOMLS[0])
    report = check_cohort(tmp_path)
    assert {(row.name, row.patients) for row in report.groups} == {("labs", 1), ("vitals", 1), ("labs+vitals", 1)}
    assert report.warnings == ()


def test_the_examples_of_other_kinds_read_but_for_their_pictures(tmp_path):
    write_examples(tmp_path, "\n".join(TOMLS))
    declared, _ = read_declaration(tmp_path)
    assert {section.kind for section in declared.modalities.values()} == set(kinds()) - {"video"}
    assert {problem.what.split(": ")[1] for problem in check_cohort(tmp_path).problems} == {"no such file"}


def test_every_field_is_documented():
    sections: tuple[Any, ...] = (
        CohortFile,
        PatientsSection,
        *(outcome.section for outcome in outcomes().values()),
        SplitSection,
        *(kind.section for kind in kinds().values()),
    )
    for section in sections:
        for field in section.model_fields:
            assert f"`{field}`" in DOCS or f"[{field}" in DOCS, field
