"""Runs side by side: what differs in their settings, and in every group; and whether they can be compared."""

from collections.abc import Sequence
from dataclasses import dataclass

from remind.errors import UserError
from remind.metrics.differences import difference
from remind.metrics.scores import EVERY
from remind.outcomes.base import kind_of
from remind_server.dashboard.answers import Estimate, Patients, PatientScores, ScoreName
from remind_server.dashboard.combined import Combined
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.groups import GroupTable, group_table
from remind_server.dashboard.views.report import RunReport, run_report

MOST_RUNS = 12  # side by side
_SPLIT = tuple(f"data.{name}" for name in ("sites", "alpha", "rules", "validation", "test", "min-evaluated"))
_OF_PATIENTS = (*_SPLIT, "synthetic.")  # settings that decide who is tested
_NOT_COMPARED = ("results",)


@dataclass(frozen=True)
class Pair:
    """A group in both runs; null if a run does not have it.

    `difference` is second minus first, `low` and `high` its 95 % interval (`metrics.differences`); `sure` if that does
    not hold 0.
    """

    name: str
    tail: bool
    ranked: bool
    first: PatientScores | None
    second: PatientScores | None
    difference: float | None
    low: float | None = None
    high: float | None = None

    @property
    def sure(self) -> bool:
        """Return whether the interval of the difference excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Comparison:
    """Two runs: different settings, overall scores, every group, and the small groups and the tail together.

    `paired`: there is no sign that the patients differ; otherwise `warnings` has the signs.
    """

    first: RunReport
    second: RunReport
    score: str
    paired: bool
    warnings: list[str]
    settings: dict[str, tuple[str | int | float | bool | None, str | int | float | bool | None]]
    overall: Pair
    tail: Pair
    groups: list[Pair]


@dataclass(frozen=True)
class SideBySide:
    """Several runs: scores overall and on the tail, and the settings that are not the same in all of them."""

    runs: list[RunReport]
    tails: list[Combined]
    score: str
    warnings: list[str]
    settings: dict[str, list[str | int | float | bool | None]]


def comparison(
    reader: Reader, first: int, second: int, score: ScoreName, patients: Patients | None = None
) -> Comparison:
    """Compare two runs: groups matched by name, the largest sure loss of `score` first.

    Raises
    ------
    UserError
        They predict different things, or different classes.
    """
    reports = _reports(reader, (first, second), patients)
    tables = [group_table(reader, report.run.id, "name", report.patients) for report in reports]
    by_name = [{row.name: row for row in table.rows} for table in tables]
    pairs = []
    for name in sorted(by_name[0] | by_name[1]):
        rows = [found.get(name) for found in by_name]
        tail, ranked = (any(getattr(row, of) for row in rows if row) for of in ("tail", "ranked"))
        pairs.append(_pair(name, tail, ranked, [row.scores if row else None for row in rows], score))
    sign = -1 if EVERY[score].lower_is_better else 1
    pairs.sort(key=lambda p: (not p.ranked, p.difference is None, not p.sure, sign * (p.difference or 0.0), p.name))
    return Comparison(
        first=reports[0],
        second=reports[1],
        score=score,
        paired=not (warnings := differing_patients(reports)),
        warnings=warnings,
        settings={key: (a, b) for key, (a, b) in _settings(reports).items()},
        overall=_pair("all groups", False, True, [report.overall for report in reports], score),
        tail=_pair("tail groups together", True, True, [table.tail.scores for table in tables], score),
        groups=pairs,
    )


def side_by_side(reader: Reader, runs: Sequence[int], score: ScoreName, patients: Patients | None = None) -> SideBySide:
    """Return several runs with the settings that differ.

    Raises
    ------
    UserError
        They predict different things or classes, or are too many.
    """
    if not 2 <= len(runs) <= MOST_RUNS:
        raise UserError(f"run: {len(runs)} runs given; 2 to {MOST_RUNS} can be shown side by side")
    reports = _reports(reader, runs, patients)
    return SideBySide(
        runs=reports,
        tails=[_table(reader, report).tail for report in reports],
        score=score,
        warnings=differing_patients(reports),
        settings=_settings(reports),
    )


def differing_patients(reports: Sequence[RunReport]) -> list[str]:
    """Return the signs that the runs were tested on different patients; empty if there are none."""
    settings = _settings(reports)
    found = [
        _differ("cohorts", [report.run.cohort for report in reports]),
        _differ("modalities", [", ".join(report.modalities) for report in reports]),
        _differ("seeds", [report.run.seed for report in reports], ", and with them the split into parts"),
        _differ("hospitals", [_sites(report) for report in reports]),
        *(_differ(key, values) for key, values in settings.items() if key.startswith(_OF_PATIENTS)),
    ]
    said = [text for text in found if text]
    if not said:  # only then does another number of patients say more
        said = [text for text in [_differ("numbers of patients", [report.overall.n for report in reports])] if text]
    return said


def _differ(what: str, values: Sequence[object], more: str = "") -> str:
    different = list(dict.fromkeys(str(value) for value in values if value is not None))
    return f"the {what} differ{more}: {'; '.join(different)}" if len(different) > 1 else ""


def _sites(report: RunReport) -> str:
    return ", ".join(site.name for site in report.sites if not site.refused)


def _reports(reader: Reader, runs: Sequence[int], patients: Patients | None) -> list[RunReport]:
    reports = [run_report(reader, run_id, patients) for run_id in runs]
    if len({report.patients for report in reports}) > 1:  # some have no test scores: compare validation with validation
        reports = [run_report(reader, run_id, "validation") for run_id in runs]
    kinds = {report.outcome: report.run.name for report in reports}
    if len(kinds) > 1:
        said = "; ".join(f"{name}: {getattr(kind_of(of), 'title', of)}" for of, name in kinds.items())
        raise UserError(f"these runs predict different things, so their scores cannot be compared ({said})")
    classes = {tuple(report.classes): report.run.name for report in reports if report.classes}
    if len(classes) > 1:
        said = "; ".join(f"{name}: {', '.join(of)}" for of, name in classes.items())
        raise UserError(f"these runs predict different classes, so their scores cannot be compared ({said})")
    return reports


def _settings(reports: Sequence[RunReport]) -> dict[str, list[str | int | float | bool | None]]:
    """Return the settings that differ: their value in each run."""
    every = sorted({key for report in reports for key in report.settings} - set(_NOT_COMPARED))
    values = {key: [report.settings.get(key) for report in reports] for key in every}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def _table(reader: Reader, report: RunReport) -> GroupTable:
    return group_table(reader, report.run.id, "name", report.patients)


def _pair(name: str, tail: bool, ranked: bool, both: Sequence[PatientScores | None], score: str) -> Pair:
    first, second = (_scored(scores, score) if scores else None for scores in both)
    if first is None or second is None:
        return Pair(name, tail, ranked, both[0], both[1], None)
    return Pair(name, tail, ranked, both[0], both[1], *difference(first, second))


def _scored(scores: PatientScores, score: str) -> tuple[float, float, float] | None:
    found: Estimate | None = getattr(scores, score)
    if found is None or found.low is None or found.high is None:
        return None
    return found.value, found.low, found.high
