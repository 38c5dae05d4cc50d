"""The numbers of the page are those of results.json, cell by cell, rounded to three digits."""

import math
from typing import Any

import pytest

from remind_studies.report import render
from remind_studies.report.cells import BEST, EQUAL, FIRST, OPEN
from remind_studies.report.words import DASH, MEASURES, METRICS, MINUS, TIGHT
from remind_studies.results import Results
from tests.builders.study_reports import ANCHORS, study
from tests.studies.report.page import Cell, Page

HEADLINE = ("mean_tail", "overall", "tail_patients", "worst_group", "worst_site")
EXAMPLES: dict[str, dict[str, Any]] = {
    "plain": {},
    "loss": {"metric": "log_loss", "gain": 0.05, "spread": 0.01},
    "one better": {"gain": {"groupdro": -0.05}, "spread": 0.01},
    "missing": {"gone": 0.3, "missing": ("compare / softmoe / seed 3: killed",)},
    "nothing": {"gone": 1.0},
    "one seed": {"seeds": 1},
    "many groups": {"modalities": tuple("abcdef"), "groups": 35},
    "panels": {"panels": (("sites = 2", "2 sites"), ("sites = 5", "5 sites")), "measures": ("available:2", "absent:2")},
}


@pytest.fixture(scope="module", params=EXAMPLES)
def made(request) -> tuple[Results, Page]:
    results = study(**EXAMPLES[request.param])
    return results, Page(render(results))


def shown(text: str) -> float:
    """The number that a reader reads."""
    return float(text.rstrip(BEST + FIRST + EQUAL + OPEN).replace(MINUS, "-").replace("\u2009", ""))


def check(cell: Cell, mean: float | None, low: float | None, high: float | None) -> None:
    assert (cell.value, cell.number("low"), cell.number("high")) == (mean, low, high)
    if mean is None:
        assert cell.text == DASH
        return
    assert math.isclose(shown(cell.text), mean, abs_tol=0.0005 + 1e-12)
    if low is not None and high is not None:
        ends = [shown(end) for end in cell.small[0].strip("[]").split(f",{TIGHT}")]
        assert ends == pytest.approx([low, high], abs=0.0005 + 1e-12)


def test_headline_and_what_is_best(made):
    results, page = made
    for i, panel in enumerate(results.panels, start=1):
        grid = page.tables[f"p{i}-headline"]
        assert set(grid.rows) == {arm.name for arm in panel.arms}
        for one in panel.summaries:
            if one.metric == results.metric and one.measure in HEADLINE:
                cell = grid.cell(one.arm, MEASURES[one.measure])
                check(cell, one.mean, one.low, one.high)
                best = next(b for b in panel.best if (b.measure, b.metric) == (one.measure, one.metric))
                assert ((BEST in cell.text) or (FIRST in cell.text)) == (one.arm == best.first)
                assert BEST not in cell.text or not best.open, "the best mean is no winner while others are open"
                assert (EQUAL in cell.text) == (one.arm in best.equal)
                assert (OPEN in cell.text) == (one.arm in best.open and one.mean is not None)
                assert one.arm not in ANCHORS or not set(cell.text) & set(BEST + FIRST + EQUAL + OPEN)


def test_further_measures_and_scores(made):
    results, page = made
    for i, panel in enumerate(results.panels, start=1):
        grid = page.tables[f"p{i}-further"]
        expected = {
            f"{METRICS[one.metric]}, {MEASURES[one.measure]}"
            for one in panel.summaries
            if one.measure in MEASURES
            and (
                one.measure not in HEADLINE if one.metric == results.metric else one.measure in {"mean_tail", "overall"}
            )
        }
        assert set(grid.head) == expected
        for one in panel.summaries:
            if (name := f"{METRICS[one.metric]}, {MEASURES.get(one.measure)}") in expected:
                check(grid.cell(one.arm, name), one.mean, one.low, one.high)


def test_differences_to_the_reference(made):
    results, page = made
    for i, panel in enumerate(results.panels, start=1):
        grid = page.tables[f"p{i}-tests"]
        assert panel.tests
        for one in panel.tests:
            name = MEASURES.get(one.measure) or {"available:2": "patients with exercise"}.get(one.measure)
            cell = grid.cell(one.arm, name or "patients without exercise")
            check(cell, one.difference, one.low, one.high)
            if one.p_adjusted is not None:
                assert (f"n = {one.n}" in cell.small) == (one.n < len(results.seeds))
                sign, p = cell.small[-1].removeprefix(f"p{TIGHT}").split(TIGHT)
                assert float(p) == pytest.approx(max(one.p_adjusted, 0.001), abs=0.0005 + 1e-12)
                assert (sign == "<") == (one.p_adjusted < 0.001)
                assert ("best" in (cell.attributes.get("class") or "")) == (one.p_adjusted < 0.05)


def test_every_group_with_its_patients(made):
    results, page = made
    for i, panel in enumerate(results.panels, start=1):
        grid = page.tables[f"p{i}-groups"]
        assert list(grid.rows) == [group.name for group in panel.groups]
        scores = {(one.arm, one.mask): one for one in panel.by_group if one.metric == results.metric}
        for group in panel.groups:
            row = grid.rows[group.name]
            assert [cell.value for cell in row.cells[:3]] == [group.train_n, group.tested, group.positives]
            assert grid.cell(group.name, "part").text == ("tail" if group.tail else "head")
            assert (row.look == "pale") == (not group.ranked) == bool(row.name and row.name.small)
            for arm in panel.arms:
                check_score(grid.cell(group.name, arm.name), scores[arm.name, group.mask], len(results.seeds))


def test_every_site(made):
    results, page = made
    for i, panel in enumerate(results.panels, start=1):
        grid = page.tables[f"p{i}-sites"]
        scores = {(one.arm, one.site): one for one in panel.by_site if one.metric == results.metric}
        for site in panel.sites:
            assert (grid.rows[site.name].look == "pale") == (not site.ranked)
            for arm in panel.arms:
                check_score(grid.cell(site.name, arm.name), scores[arm.name, site.name], len(results.seeds))


def check_score(cell: Cell, one, seeds: int) -> None:
    """A score of a group or site: its mean, or that of all seeds' patients together where no seed has one."""
    if one.mean is None:
        check(cell, one.pooled, None, None)
        assert (cell.small == ["merged"]) == (one.pooled is not None)
    else:
        check(cell, one.mean, one.low, one.high)
        assert (f"n = {one.n}" in cell.small) == (one.n < seeds)


def test_overview_of_many_tables():
    results = study(**EXAMPLES["panels"])
    grid = Page(render(results)).tables["overview-table"]
    assert list(grid.rows) == [panel.title for panel in results.panels]
    for panel in results.panels:
        rivals = {
            one.arm: one.mean
            for one in panel.summaries
            if one.measure == "mean_tail" and one.metric == "auroc" and one.arm not in {"remind", *ANCHORS}
        }
        strongest = max(rivals, key=lambda arm: rivals[arm])
        _, reference, value, other, other_value, gap = grid.rows[panel.title].cells
        assert (reference.text, other.text, other_value.value) == ("remind", strongest, rivals[strongest])
        assert gap.value == pytest.approx(other_value.value - value.value, abs=1e-12)


def test_costs_are_whole_and_in_full():
    results = study(scores=False, facts={"parameters": 958123456.0, "seconds per step": 0.0123})
    page = Page(render(results))
    grid = page.tables["cost-1"]
    for one in results.facts:
        cell = grid.cell(one.arm, one.name)
        assert cell.value == one.mean
        assert shown(cell.text) == pytest.approx(one.mean, rel=0.005)
    assert set(page.tables) == {"cost-1", "settings-arms"}  # no empty table of scores
