"""Show what each hospital gains if it joins: a sentence, a table and a plot."""

from dataclasses import dataclass

from remind_studies.report.cells import Cell, Row, Table, difference
from remind_studies.report.figures import Picture
from remind_studies.report.forest import Difference, draw_forest
from remind_studies.report.style import inline, looks
from remind_studies.report.view import PanelView
from remind_studies.report.words import counted, interval, number, said, signed
from remind_studies.results import Joining
from remind_studies.results.statistics import LEVEL

BEST_ALONE = "the best alone"


@dataclass(frozen=True)
class Chapter:
    """What the report says of joining."""

    sentence: str
    table: Table
    picture: Picture | None


def chapter(view: PanelView) -> Chapter | None:
    """Return the chapter about the reference; None if no hospital was trained alone."""
    found = next((one for one in view.panel.joining if one.arm == view.reference), None)
    if found is None or not found.hospitals:
        return None
    return Chapter(sentence(found, view.margin), _table(view, found), _picture(view, found))


def sentence(found: Joining, margin: str) -> str:
    """Report how many hospitals gain, and how much."""
    rows = [row for row in _rows(found) if row.difference is not None]
    gaining = sum((row.difference or 0) > 0 for row in rows)
    sure = sum(row.sure and (row.difference or 0) > 0 for row in rows)
    losing = sum(row.sure and (row.difference or 0) < 0 for row in rows)
    equal = sum(row.equal for row in rows)
    return (
        f"With {said(found.arm)} the mean is better than with the best that a hospital has alone at {gaining} of "
        f"{counted(len(rows), 'hospital')}: {sure} gain surely, {losing} lose surely, and for {equal} both are shown "
        f"to be equal within {margin}. Mean over the hospitals: {signed(found.gain)} "
        f"{interval(found.low, found.high, signed)}".rstrip()
        + "."
    )


def _rows(found: Joining) -> list[Difference]:
    return [
        Difference(
            arm=one.site,
            difference=one.gain,
            low=one.low,
            high=one.high,
            p=one.p_adjusted,
            sure=one.p_adjusted is not None and one.p_adjusted < LEVEL,
            anchor=False,
            n=one.n,
            equal=one.p_equal is not None and one.p_equal < LEVEL,
        )
        for one in found.hospitals
    ]


def _table(view: PanelView, found: Joining) -> Table:
    tested = {site.name: site.tested for site in view.panel.sites}
    rows = [
        Row(
            one.site,
            [
                Cell(str(tested.get(one.site, "")), tested.get(one.site)),
                Cell(", ".join(f"{name} ({n})" for name, n in sorted(one.chosen.items(), key=_most)), words=True),
                Cell(number(one.alone), one.alone),
                Cell(number(one.joined), one.joined),
                difference(row, view.seeds),
            ],
        )
        for one, row in zip(found.hospitals, _rows(found), strict=True)
    ]
    head = [
        ("tested", "patients tested at least once"),
        ("best alone", "what the hospital's validation patients chose, and in how many seeds"),
        ("alone", "test score of that choice"),
        (f"with {found.arm}", "test score of the federated model at this hospital"),
        ("gain", "joined minus alone, positive where joining is better; p adjusted by Holm over the hospitals"),
    ]
    caption = (
        f"{view.metric_name} of each ranked hospital's test patients: the best that it has alone, chosen on its "
        f"own validation patients seed by seed, and with {found.arm}."
    )
    return Table(f"{view.key}-joining", caption, "hospital", head, rows)


def _picture(view: PanelView, found: Joining) -> Picture | None:
    rows = _rows(found)
    if all(row.difference is None for row in rows):
        return None
    title = f"Gain in {view.metric_name} of each hospital that joins"
    words = "; ".join(f"{row.arm} {signed(row.difference)}" for row in rows)
    caption = f"{title}, with 95 % intervals over paired seeds. Right of 0: joining is better. Filled: sure."
    names = looks([row.arm for row in rows], (), "")
    svg = inline(f"{view.key}-j", title, words, draw_forest, [(title, rows)], names, BEST_ALONE, False)
    return Picture(svg, caption)


def _most(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
