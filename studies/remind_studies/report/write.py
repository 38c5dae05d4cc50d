"""Write the report from the results."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remind.durations import duration
from remind.groups import TAIL_SHARE
from remind_studies.html import environment, write_html
from remind_studies.report import figures, joining, tables
from remind_studies.report.answer import Answer, answer, overall
from remind_studies.report.cells import Table, marks
from remind_studies.report.figures import Picture
from remind_studies.report.joining import Chapter as JoiningChapter
from remind_studies.report.overview import overview
from remind_studies.report.view import PanelView, views
from remind_studies.report.words import MEANING, MEASURES, counted
from remind_studies.results import Results
from remind_studies.results.statistics import LEVEL


@dataclass(frozen=True)
class Chapter:
    """All that is shown of one panel."""

    view: PanelView
    answer: Answer
    headline: Table | None
    forest: Picture | None
    tests: Table | None
    groups: Table | None
    group_plot: Picture | None
    sites: Table | None
    joining: JoiningChapter | None
    trace_plot: Picture | None
    further: Table | None


def write_report(results: Results, path: Path) -> None:
    """Write the report of a study; a file of that name is replaced, at once.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    write_html(render(results), path)


def render(results: Results) -> str:
    """Return the report as HTML; equal results give equal pages."""
    costs = {fact.panel for fact in results.facts}
    every = views(results)
    chapters = [_chapter(view) for view in every if view.panel.summaries or view.panel.name not in costs]
    answers = [(one.view, one.answer) for one in chapters]
    return _environment.get_template("report.html").render(
        results=results,
        answer=overall(answers),
        panels=chapters,
        overview=overview(answers),
        sweeps=figures.sweep_plots([one.view for one in chapters]),
        costs=tables.costs(results),
        setting_arms=_setting_arms(results),
        level=LEVEL,
        marks=marks(every[0].margin if every else ""),
        tail_share=TAIL_SHARE,
        measures=[(name, MEANING[measure]) for measure, name in MEASURES.items()],
    )


def _chapter(view: PanelView) -> Chapter:
    return Chapter(
        view=view,
        answer=answer(view),
        headline=tables.headline(view),
        forest=figures.forest(view),
        tests=tables.tests(view),
        groups=tables.groups(view),
        group_plot=figures.group_plot(view),
        sites=tables.sites(view),
        joining=joining.chapter(view),
        trace_plot=figures.trace_plot(view),
        further=tables.further(view),
    )


def _setting_arms(results: Results) -> list[str]:
    """Return the arms whose settings are shown, in the order of the tables; JSON objects have no order."""
    order = list(dict.fromkeys(arm.name for panel in results.panels for arm in panel.arms))
    names = {*results.settings.arms, *results.tuning.chosen}
    return [name for name in order if name in names] + sorted(names.difference(order))


def _setting(value: Any) -> str:
    """Format a setting's value as a user types it."""
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else f"{value}"


_environment = environment("remind_studies.report")
_environment.filters.update(counted=counted, duration=duration, setting=_setting)
