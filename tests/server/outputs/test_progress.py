"""The progress output of a run."""

import io
import re
from dataclasses import replace
from functools import partial

import pytest

from remind.config import Scalar
from remind.groups import dots
from remind.metrics.statistics import total
from remind_server.outputs.progress import Progress
from remind_server.outputs.records import RunStart
from remind_server.outputs.screen import LINES, Screen
from tests.builders.cohorts import schema
from tests.builders.configs import settings
from tests.builders.reports import TEST, follow, record, result, statistics


@pytest.mark.parametrize(("test", "validation"), [(TEST, None), ({}, {}), ({"x": {}}, {})])
def test_progress_is_readable_whatever_there_is_to_show(test, validation):
    lines: list[str] = []
    follow(Progress(lines.append), test, validation)
    text = "\n".join(lines)
    assert "2 sites, 3 groups, 102 training patients, 2 rounds, seed 0" in text
    assert "round 1 of 2 (warm-up): 2 sites" in text
    assert "0.0 s left" in next(line for line in lines if line.startswith("round 2 of 2"))
    assert "w: not taking part: version 0" in text
    assert "z: not counted: no answer within 600 s" in text
    assert "nan" not in text.lower()
    assert text.count("weight of the group in the objective") == (1 if "  group" in text else 0), "explained once"
    for term in ("Σλ·R: ", "gate: ", "risk: ", "*: tail"):
        assert text.count(term) == (1 if "  group" in text else 0), "so are the others"
    tables = [line.splitlines() for line in lines if line.startswith("  group")]
    assert len(tables) == 2
    for table in tables:
        assert len({len(line) for line in table}) == 1, "columns stand under each other"


def many(n_groups: int, n_modalities: int = 12):
    """A run of so many groups of long names: what it says, round by round."""
    names = tuple(f"modality-{i:02}" for i in range(n_modalities))
    masks = list(range(1, n_groups + 1))
    counts = {k: 10 * k for k in masks}
    weights = dict.fromkeys(masks, 1 / n_groups)
    told = schema(names, series=())
    measured = statistics(0, masks, 20 * n_groups)
    start = RunStart(settings(), told, {"x": counts}, counts, {})
    round_ = record(1, measured, counts=counts, weights_used=weights, weights_after=weights, risks={})
    missing = {f"site {i:02}": "no answer within 600 s" for i in range(30)}
    done = result({"x": measured}, schema=told, counts=counts, weights=weights)
    return start, replace(round_, absent=missing), done, measured


def test_a_delta_that_is_large_for_the_patients_of_a_hospital_is_said_before_the_run():
    private: dict[str, Scalar] = {"privacy.mode": "site", "privacy.noise": 1.0, "privacy.delta": 1e-3}
    lines: list[str] = []
    sites = {"x": {1: 150}, "y": {1: 90}}
    Progress(lines.append).started(
        RunStart(settings(private | {"evaluation.calibration": "none"}), schema(series=()), sites, {1: 240}, {})
    )
    said = [line for line in lines if "privacy.delta" in line]
    assert len(said) == 1
    assert said[0].startswith("warning: privacy.delta = 0.001 is more than a tenth of 1/n for n = 150 patients")


def said_in_a_round(screen, n_groups=93):
    lines: list[str] = []
    progress = Progress(lines.append, screen=screen)
    start, round_, done, measured = many(n_groups)
    progress.started(start)
    before = len(lines)
    progress.round_done(round_, {})
    text = "\n".join(lines[before:]).splitlines()
    lines.clear()
    progress.finished(done)
    return text, "\n".join(lines).splitlines(), measured


@pytest.mark.parametrize("n_groups", [3, 93, 200])
def test_a_round_is_a_screen_at_most_whatever_the_number_of_groups(n_groups):
    text, final, measured = said_in_a_round(Screen(), n_groups)
    assert len(text) <= LINES
    assert "  and 26 more sites: not counted" in text
    if n_groups == 3:
        assert [line.split()[0].rstrip("*") for line in text[-3:]] == [
            "modality-00+modality-01",
            "modality-01",
            "modality-00",
        ]
        return
    rows = [line.split() for line in text if "●" in line]
    assert rows[0][0].rstrip("*") == dots(n_groups, 12), "the group with the most training patients first"
    assert any("not shown" in line for line in text)
    [others] = [line for line in text if "other groups" in line]
    rest = n_groups - len(rows)
    pooled = total({k: s for k, s in measured.items() if k <= rest})
    assert others.split()[:5] == [
        str(rest),
        "other",
        "groups",
        str(sum(10 * k for k in range(1, rest + 1))),
        str(pooled.count),
    ]
    assert any("other groups" in line for line in final)


def test_verbose_shows_all_of_them():
    text, final, _ = said_in_a_round(Screen(width=80, verbose=True))
    for lines in (text, final):
        assert len({line.split()[0].strip("*°") for line in lines if "●" in line}) == 93
        assert not any("other groups" in line or "not shown" in line for line in lines)
    assert sum("not counted" in line for line in text) == 30


@pytest.mark.parametrize("width", [60, 80, 132])
def test_no_table_is_wider_than_the_screen(width):
    text, final, _ = said_in_a_round(Screen(width=width))
    tables = [line for line in (*text, *final) if line.startswith("  ") and not line.startswith("  (not shown")]
    assert len(tables) > 20
    assert max(map(len, tables)) <= width
    head = next(line for line in text if line.startswith("  group"))
    assert "AUROC" in head, "what is wanted most is kept"
    assert ("own loss" in head) == (width > 200)


def test_a_terminal_gets_colours_and_the_same_numbers(monkeypatch):
    from rich.console import Console

    drawn, lines = io.StringIO(), []
    console = Console(file=drawn, force_terminal=True, width=100, color_system="standard")
    start, round_, _, _ = many(93)
    for screen, say in (
        (Screen(100, 24, console), partial(print, file=drawn)),
        (Screen(100, 24), lines.append),
    ):
        progress = Progress(say, screen=screen)
        progress.started(start)
        progress.round_done(round_, {})
    assert "\x1b[1m" in drawn.getvalue()
    bare = re.sub(r"\x1b\[[\d;]*m", "", drawn.getvalue())
    plain = [line.split() for line in "\n".join(lines).splitlines() if "●" in line]
    assert plain == [line.split() for line in bare.splitlines() if "●" in line]
    assert max(len(line) for line in bare.splitlines() if line.startswith(("●", "○", "all", "group"))) <= 100
    assert "\x1b" not in "".join(lines), "a log gets plain text"


def test_columns_of_the_environment_overrule(monkeypatch):
    monkeypatch.setenv("COLUMNS", "77")
    monkeypatch.setenv("LINES", "30")
    screen = Screen.of_output()
    assert (screen.width, screen.lines, screen.console) == (77, 30, None)
    monkeypatch.delenv("COLUMNS")
    assert Screen.of_output().width is None, "a pipe has no width"
