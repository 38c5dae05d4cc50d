"""The tables that `remind bench` prints are those of the report."""

import re

import pytest

from remind_studies.report import markdown
from remind_studies.report.view import views
from remind_studies.report.words import number
from tests.builders.study_reports import study


def tables(text):
    """Rows of cells of each table."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    return [[[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block] for block in blocks]


@pytest.mark.parametrize(
    "results",
    [
        study(),
        study(panels=(("a", "A | B"), ("b", "B"))),
        study(gone=0.5),
        study(seeds=1),
        study(scores=False, facts={"parameters": 958e6}),
        study(arms=("<b>x</b>|y", "remind")),
    ],
)
def test_every_row_is_as_wide_as_its_head(results):
    found = tables(markdown(results))
    assert found
    for table in found:
        assert {len(row) for row in table} == {len(table[0])}
        assert set(table[1]) == {"---"}
        assert len(table) > 2


def test_scores_are_those_of_the_results():
    results = study(gain=0.05)
    (view,) = views(results)
    (table,) = tables(markdown(results))
    rows = {row[0].strip("*"): row[1:] for row in table[2:]}
    assert list(rows) == list(view.arms)
    for arm, cells in rows.items():
        for cell, measure in zip(cells, view.measures, strict=False):
            assert cell.split()[0] == number(view.summary(arm, measure).mean)
            mark = view.mark(arm, measure)
            assert cell.endswith(mark) if mark else cell[-1] in "]–0123456789"
        assert (cells[-1] == "–") == (arm == view.reference)
