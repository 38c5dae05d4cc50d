"""The model of a run: its round, the reliability of its probabilities, and its decisions.

With a minimum count, this view shows no scores of single groups. It shows the reliability of one model only (the
calibrated one if there is one), over the probability ranges of the threshold curves (`thresholds`), each with at least
the minimum of patients of the class and of the rest. The decision curve uses these ranges, and sensitivity and
specificity are shown only if the threshold in use lies between two ranges. So no small count is shown, and none follows
from other numbers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup
from sqlalchemy.orm import Session

from remind_server.dashboard.combined import merged_statistics
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.thresholds import GroupCurves, group_curves
from remind_server.store.schema import ALL, TEST

EVERYONE = "all"
SIZE = 220  # units of a picture's side
LEFT = 48  # units for the numbers of the upright axis
MOST_THRESHOLD = 0.8  # drawn
MOST_MARKED = 12  # points of a line with a mark each
YARDSTICK = "yardstick"


@dataclass(frozen=True)
class ModelScores:
    """Probabilities and decisions of a group's test patients, or of all, raw or calibrated; intervals are of 95 %.

    Sensitivity and specificity are those of the decisions: at the operating point if there is one, else for the
    likeliest class; null unless there are two classes.
    """

    group: str
    model: str
    n: int
    log_loss: float
    log_loss_low: float
    log_loss_high: float
    brier: float
    brier_low: float
    brier_high: float
    ece: float
    ece_low: float
    ece_high: float
    sensitivity: float | None
    sensitivity_low: float | None
    sensitivity_high: float | None
    specificity: float | None
    specificity_low: float | None
    specificity_high: float | None


@dataclass(frozen=True)
class ReliabilityBin:
    """Patients in a range of predicted probability of the scored class, and how many of them are of this class."""

    group: str
    model: str
    scored: str
    low: float
    high: float
    n: int
    of_class: int
    predicted: float

    @property
    def observed(self) -> float:
        """The share of these patients who are of the class."""
        return self.of_class / self.n


@dataclass(frozen=True)
class DecisionPoint:
    """Net benefit at a threshold probability: of the model, and of treating everybody. Treating nobody has 0."""

    group: str
    model: str
    scored: str
    threshold: float
    net_benefit: float
    treat_all: float


@dataclass(frozen=True)
class ModelCard:
    """The model of a run that has ended: its round and why (null: the last), its calibration and decisions."""

    run: int
    round: int
    last_round: int
    selected: dict[str, str | float] | None
    method: str
    reason: str
    operating_point: str
    scores: list[ModelScores]
    reliability: list[ReliabilityBin]
    decisions: list[DecisionPoint]


_SCORES = tuple(ModelScores.__dataclass_fields__)
_DECIDED = tuple(name for name in _SCORES if name.startswith(("sensitivity", "specificity")))


def model_card(reader: Reader, run_id: int) -> ModelCard | None:
    """Return the run's model; None before the end of the run, or if an earlier version wrote the run."""
    with Session(reader.engine) as session:
        run = reader.run(session, run_id)
        content: Any = run.model
        if content is None or not (content["scores"] or run.classes):
            return None
        shown = reader.published(session, run).of(TEST)
        everyone = shown.score(ALL, ALL)
        low, scored = reader.min_count, run.classes[1:] if len(run.classes) == 2 else run.classes
        known = low > 1 and bool(merged_statistics(session, run_id, "test"))

    def visible(row: dict[str, Any]) -> bool:
        return everyone if row["group"] == EVERYONE else low <= 1

    rows = [row for row in content["reliability"] if visible(row)]
    scores = [ModelScores(**{name: row[name] for name in _SCORES}) for row in content["scores"] if visible(row)]
    if known:
        places = range(len(scored)) if everyone else ()
        of_all = [group_curves(reader, run_id, (ALL,), "test", c).get(ALL) for c in places]
        bins = [one for curves in of_all if curves for one in _bins(curves)]
        chosen = bool(of_all and of_all[0] and of_all[0].chosen)
        last = scores[-1].model if scores else ""
        hidden: dict[str, Any] = dict.fromkeys(_DECIDED)
        scores = [one if chosen and one.model == last else replace(one, **hidden) for one in scores]
    else:
        bins = joined(rows if low <= 1 else _one_model(rows), low)
    fitted: Any = content["calibration"] or {}
    return ModelCard(
        run=run_id,
        round=content["round"],
        last_round=content["last_round"],
        selected=content["selected"],
        method=fitted.get("method", "none"),
        reason=fitted.get("reason", ""),
        operating_point=fitted.get("wanted", ""),
        scores=scores,
        reliability=bins,
        decisions=[_point(row) for row in content["decisions"] if visible(row)] if low <= 1 else decisions_of(bins),
    )


def _bins(curves: GroupCurves) -> list[ReliabilityBin]:
    """Return the ranges of a curve over the threshold."""
    model = "calibrated" if curves.calibrated else "raw"
    return [
        ReliabilityBin(EVERYONE, model, curves.scored, one.low, one.high, one.n, one.of_class, one.predicted)
        for one in curves.ranges
    ]


def _one_model(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the calibrated model, or of the raw one without it. Rows of both would reveal finer ranges."""
    last = rows[-1]["model"] if rows else None
    return [row for row in rows if row["model"] == last]


def _point(row: dict[str, Any]) -> DecisionPoint:
    return DecisionPoint(scored=row["class"], **{name: row[name] for name in row.keys() - {"class"}})


def decisions_of(bins: Sequence[ReliabilityBin]) -> list[DecisionPoint]:
    """Compute the net benefit at the lower ends of these ranges from their counts."""
    found = []
    for one in bins:
        own = [b for b in bins if (b.group, b.model, b.scored) == (one.group, one.model, one.scored)]
        n, positives, odds = sum(b.n for b in own), sum(b.of_class for b in own), one.low / (1 - one.low)
        above = [b for b in own if b.low >= one.low]
        hits, treated = sum(b.of_class for b in above), sum(b.n for b in above)
        found.append(
            DecisionPoint(
                group=one.group,
                model=one.model,
                scored=one.scored,
                threshold=one.low,
                net_benefit=(hits - odds * (treated - hits)) / n,
                treat_all=(positives - odds * (n - positives)) / n,
            )
        )
    return found


def joined(rows: Iterable[dict[str, Any]], least: int) -> list[ReliabilityBin]:
    """Return reliability bins; neighbours of one curve are joined until each has `least` of the class and of the rest.

    The remainder at the upper end joins the bin before it. A curve with fewer patients in total is left out.
    """
    curves: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        curves.setdefault((row["group"], row["model"], row["class"]), []).append(row)
    found: list[ReliabilityBin] = []
    for key, own in curves.items():
        bins: list[ReliabilityBin] = []
        for row in own:
            one = ReliabilityBin(*key, row["from"], row["to"], row["n"], row["of_class"], row["predicted"])
            bins = [*bins[:-1], _together(bins[-1], one)] if bins and _is_small(bins[-1], least) else [*bins, one]
        while len(bins) > 1 and _is_small(bins[-1], least):
            bins = [*bins[:-2], _together(bins[-2], bins[-1])]
        found += [one for one in bins if not _is_small(one, least)]
    return found


def _is_small(one: ReliabilityBin, least: int) -> bool:
    return min(one.of_class, one.n - one.of_class) < least if least > 1 else False


def _together(a: ReliabilityBin, b: ReliabilityBin) -> ReliabilityBin:
    n = a.n + b.n
    predicted = (a.n * a.predicted + b.n * b.predicted) / n
    return ReliabilityBin(a.group, a.model, a.scored, a.low, b.high, n, a.of_class + b.of_class, predicted)


def reliability_picture(card: ModelCard) -> Markup:
    """Draw observed against predicted, of all test patients, raw and calibrated; the diagonal is perfect."""
    own = [one for one in card.reliability if one.group == EVERYONE]
    lines = [
        (key[0], [(one.predicted, one.observed) for one in own if (one.model, one.scored) == key])
        for key in dict.fromkeys((one.model, one.scored) for one in own)
    ]
    words = "observed share of the class against predicted probability"
    return _picture([(YARDSTICK, [(0.0, 0.0), (1.0, 1.0)]), *lines], 1.0, words)


def decision_picture(card: ModelCard) -> Markup:
    """Draw the net benefit by threshold, of all test patients: treating everybody, and the raw and calibrated model."""
    own = [row for row in card.decisions if row.group == EVERYONE and row.threshold <= MOST_THRESHOLD]
    keys = list(dict.fromkeys((row.model, row.scored) for row in own))
    if not keys:
        return Markup("")
    top = max([row.net_benefit for row in own] + [0.01])
    everybody = [(r.threshold, r.treat_all) for r in own if (r.model, r.scored) == keys[0]]
    lines = [(key[0], [(r.threshold, r.net_benefit) for r in own if (r.model, r.scored) == key]) for key in keys]
    return _picture([(YARDSTICK, everybody), *lines], top, "net benefit against the threshold probability")


def _picture(lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], top: float, words: str) -> Markup:
    """Draw lines by the name of their model over x from 0 to 1 and y from 0 to `top`; what lies outside is cut."""
    drawn = []
    for name, line in lines:
        at = [(round(SIZE * x), round(SIZE * (1 - y / top))) for x, y in line]
        points = " ".join(f"{x},{y}" for x, y in at)
        drawn.append(Markup('<polyline class="{}" points="{}"/>').format(name, points))
        if name != YARDSTICK and len(at) <= MOST_MARKED:
            drawn += [Markup('<circle class="{}" cx="{}" cy="{}" r="3"/>').format(name, x, y) for x, y in at]
    ticks = [
        Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, f"{value:.3g}")
        for share in (0.0, 0.5, 1.0)
        for x, y, anchor, value in (
            (LEFT + SIZE * share, SIZE + 22, "middle", share),
            (LEFT - 6, 12 + SIZE * (1 - share), "end", top * share),
        )
    ]
    plot = '<svg x="{0}" y="8" width="{1}" height="{1}" viewBox="0 0 {1} {1}"><rect width="{1}" height="{1}"/>{2}</svg>'
    inner = Markup(plot).format(LEFT, SIZE, Markup("").join(drawn))
    head = '<svg class="unit" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">{3}{4}</svg>'
    return Markup(head).format(LEFT + SIZE + 16, SIZE + 30, words, inner, Markup("").join(ticks))
