"""The headline tables as Markdown: what `remind bench` prints when it is done."""

from collections.abc import Sequence

from remind_studies.report import joining
from remind_studies.report.answer import answer
from remind_studies.report.cells import EQUAL
from remind_studies.report.forest import Difference
from remind_studies.report.view import PanelView, views
from remind_studies.report.words import DASH, counted, interval, number, p_value, quantity, signed
from remind_studies.results import Results


def markdown(results: Results) -> str:
    """Write for each panel its answer, its arms by the headline measures, and the tests of the study's own measure.

    Means with 95 % intervals over seeds, and signs (`cells.marks`). A study that measured no models has its facts
    instead. Last comes what the study recommends.
    """
    panels = [_panel(view) for view in views(results) if view.panel.summaries]
    facts = [_facts(name, results) for name in dict.fromkeys(fact.panel for fact in results.facts)]
    return "\n\n".join((*panels, *facts, *filter(None, (results.advice,))))


def _panel(view: PanelView) -> str:
    results, tested = view.results, {one.arm: one for one in view.differences(view.results.measure)}
    title = f"{view.title}: {view.metric_name}, {counted(view.seeds, 'seed')}"
    head = [title, *map(view.measure_name, view.measures), f"{view.measure_name(results.measure)}, − {view.reference}"]
    rows = []
    for arm in view.arms:
        scores = [_score(view, arm, measure) for measure in view.measures]
        rows.append([f"*{arm}*" if arm in view.anchors else arm, *scores, _difference(tested.get(arm))])
    told = answer(view)
    parts = [" ".join((told.sentence, *told.caveats)), _table(head, rows)]
    parts += [joining.sentence(one, view.margin) for one in view.panel.joining if one.hospitals]
    return "\n\n".join(parts)


def _facts(panel: str, results: Results) -> str:
    """Return the facts of a panel, a row each, by arm."""
    mine = [fact for fact in results.facts if fact.panel == panel]
    means = {(fact.name, fact.arm): quantity(fact.mean) for fact in mine}
    arms, names = (list(dict.fromkeys(getattr(fact, key) for fact in mine)) for key in ("arm", "name"))
    return _table([panel, *arms], [[name, *(means.get((name, arm), DASH) for arm in arms)] for name in names])


def _difference(one: Difference | None) -> str:
    if one is None or one.difference is None:
        return DASH
    told = EQUAL if one.equal else f"p {p_value(one.p)}"
    return f"{signed(one.difference)} {interval(one.low, one.high, signed)} {told}"


def _score(view: PanelView, arm: str, measure: str) -> str:
    one = view.summary(arm, measure)
    if one is None:
        return DASH
    by_chance = f"(if equal {number(one.if_equal)})" if one.if_equal is not None else ""
    mark = view.mark(arm, measure)
    return " ".join(filter(None, (number(one.mean), interval(one.low, one.high), by_chance, mark)))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in line) + " |" for line in lines)
