"""The overview of all tables of a study: the result for the reference in each table, with a link to it."""

from collections.abc import Sequence

from remind_studies.report.answer import WORDS, Answer
from remind_studies.report.cells import Cell, Row, Table, difference, score
from remind_studies.report.view import PanelView
from remind_studies.report.words import DASH


def overview(answers: Sequence[tuple[PanelView, Answer]]) -> Table | None:
    """Return a row per panel: the reference's value, the strongest other method, the difference, the verdict."""
    if not answers:
        return None
    first = answers[0][0]
    what = f"{first.metric_name}, {first.measure_name(first.results.measure)}"
    rows = [_row(view, one) for view, one in answers if view.panel.summaries]
    head = [
        ("in a word", ""),
        ("reference", "the method that others are compared with"),
        ("its value", ""),
        ("strongest other", "the other method of the best mean"),
        ("its value", ""),
        (
            "difference",
            "the other minus the reference; p adjusted by Holm over the methods and main measures of that table",
        ),
    ]
    return Table("overview-table", f"{what}: what each table says.", "table", head, rows) if rows else None


def _row(view: PanelView, one: Answer) -> Row:
    measure = view.results.measure
    other = view.first(view.rivals, measure)
    found = {row.arm: row for row in view.differences(measure)}.get(other)
    cells = [
        Cell(WORDS[one.verdict], words=True),
        Cell(view.reference or DASH, words=True),
        score(view.summary(view.reference, measure), view.seeds),
        Cell(other or DASH, words=True),
        score(view.summary(other, measure), view.seeds),
        difference(found, view.seeds),
    ]
    return Row(view.title, cells, link=view.key)
