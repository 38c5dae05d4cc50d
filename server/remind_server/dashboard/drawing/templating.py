"""HTML from templates: all text is escaped, and filters format numbers uniformly."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.templating import Jinja2Templates

from remind.durations import duration
from remind.groups import TAIL_SHARE
from remind.metrics.aggregates import LEAST, LEAST_OF_A_CLASS
from remind.metrics.score import Score
from remind.metrics.scores import BOUNDED, EVERY, TIGHT, WITH_INTERVAL, WITHOUT_INTERVAL
from remind.version import VERSION
from remind_server.dashboard.answers import Estimate
from remind_server.dashboard.drawing.bars import bar_scale, interval_bar, sparkline
from remind_server.dashboard.drawing.combos import breakable, combo, heads
from remind_server.dashboard.drawing.strips import most_used, scale, strip
from remind_server.dashboard.views.matrix import Matrix
from remind_server.dashboard.views.timeline import picture

DASH = "–"  # for what is undefined
LOWER = tuple(name for name, score in EVERY.items() if score.lower_is_better)
SHARES = (*(name for name, score in EVERY.items() if score.within_one), "weight", "gate_open")  # in 0 … 1
STAGES = {1: "warm-up", 2: "routing"}
HEAT_STEPS, LOW_STEPS = 10, 5


def number(value: float | None, digits: int = 3) -> str:
    """Format a number; a dash if there is none."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", "−")


def interval(estimate: Estimate) -> str:
    """Format the 95 % interval of a score; empty if it is not known."""
    return "" if estimate.low is None else between(estimate.low, estimate.high)


def between(low: float | None, high: float | None) -> str:
    """Format an interval: by a dash, or by "to" where a minus sign would stand beside it."""
    return f"{number(low, 2)}{' to ' if low is not None and low < 0 else '–'}{number(high, 2)}"


def signed(value: float | None, digits: int = 3) -> str:
    """Format a difference with its sign; uses the minus sign U+2212."""
    return DASH if value is None else f"{value:+.{digits}f}".replace("-", "−")


def counted(count: int, noun: str) -> str:
    """Format a number of things: "1 group", "2 groups"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def amount(number_of_bytes: float) -> str:
    """Format a number of bytes with its unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if number_of_bytes < 1000:
            return f"{number_of_bytes:.0f} {unit}" if unit == "B" else f"{number_of_bytes:.1f} {unit}"
        number_of_bytes /= 1000
    return f"{number_of_bytes:.1f} TB"


def moment(seconds: float) -> str:
    """Format a point in time, UTC; the page's script converts it to local time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def heat(value: float | None, score: str) -> str:
    """Return the CSS class of a score's cell: h0 (0.5) … h9 (1), below 0.5 l1 … l5 (0); reversed if 0 is best.

    A score that is not a share has no colour. No score has a white cell: a white cell means that there is no score.
    """
    if value is None or not EVERY[score].within_one:
        return ""
    value = 1 - value if EVERY[score].lower_is_better else value
    if value < 0.5:
        return f"l{min(int((0.5 - value) * 2 * LOW_STEPS) + 1, LOW_STEPS)}"
    return f"h{min(int((value - 0.5) * 2 * HEAT_STEPS), HEAT_STEPS - 1)}"


def heat_scale(score: str) -> Markup:
    """Return the shades of the matrix from worst to best, with numbers at the ends and in the middle."""
    if not EVERY[score].within_one:
        return Markup("")
    shades = [f"l{step}" for step in range(LOW_STEPS, 0, -1)] + [f"h{step}" for step in range(HEAT_STEPS)]
    cells = "".join(f'<i class="{shade}"></i>' for shade in shades)
    worst, best = ("1", "0") if EVERY[score].lower_is_better else ("0", "1")
    text = '<span class="scale-row" role="img" aria-label="{0}"><b>{1}</b>{2}<b>.5</b>{3}<b>{4}</b></span>'
    middle = cells.index('<i class="h0"')
    return Markup(text).format(
        f"shades from {worst} by .5 to {best}", worst, Markup(cells[:middle]), Markup(cells[middle:]), best
    )


def matrix_cells(matrix: Matrix, row: int) -> Markup:
    """Return the cells of a row of the matrix: the score, the number of patients below it, and the interval on demand.

    Written without a template, because one page may have tens of thousands of cells.
    """
    withheld = {j for i, j in matrix.withheld if i == row}
    absent = {j for j, n in enumerate(matrix.n[row]) if n is None} - withheld
    cells = zip(matrix.n[row], matrix.value[row], matrix.low[row], matrix.high[row], strict=True)
    return Markup(
        "".join(
            _ABSENT if j in absent else _matrix_cell(n, value, low, high, j in withheld, matrix.score)
            for j, (n, value, low, high) in enumerate(cells)
        )
    )


_ABSENT = f'<td class="nobody" title="not measured: the hospital did not count in the last round">{DASH}</td>'


def _matrix_cell(
    n: int | None, value: float | None, low: float | None, high: float | None, withheld: bool, score: str
) -> str:
    if n is None:
        return '<td class="gone" title="withheld: too few patients, or none">withheld</td>'
    if withheld:
        return f'<td class="gone" title="score withheld; {n} patients">·\n{n}</td>'
    if not n:
        return '<td class="nobody" title="no patients of this combination were measured">0</td>'
    if value is None:
        return f'<td title="not defined for these {n} patients">{DASH}\n{n}</td>'
    shown = "" if low is None else f"<small>\n{between(low, high)}</small>"
    return f'<td class="{heat(value, score)}">{number(value, 2)}\n{n}{shown}</td>'


def scores_shown(own: Mapping[str, Score], unit: str = "") -> dict[str, Any]:
    """Return titles, columns and meanings of these scores, for a template.

    Parameters
    ----------
    unit
        Unit of the number that is predicted, which scores in this unit are shown with.
    """

    def written(text: str, name: str) -> str:
        return f"{text} ({unit})" if unit and own[name].in_unit else text

    titles = {name: written(score.title[0].upper() + score.title[1:], name) for name, score in own.items()}
    return {
        "SCORE_NAMES": {name: title for name, title in titles.items() if name in WITH_INTERVAL},
        "LOSS_NAMES": {name: title for name, title in titles.items() if name in WITHOUT_INTERVAL},
        "COLUMNS": {name: written(score.column, name) for name, score in own.items()},
        "MEANINGS": {name: score.meaning for name, score in own.items()},
    }


def page(request: Request, name: str, status: int = 200, **values: Any) -> Response:
    """Return the page made from a template."""
    return _TEMPLATES.TemplateResponse(request, name, values, status_code=status)


_environment = Environment(
    loader=PackageLoader("remind_server.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(
    counted=counted,
    number=number,
    signed=signed,
    interval=interval,
    duration=lambda seconds: DASH if seconds is None else duration(seconds),
    amount=amount,
    moment=moment,
    matrix_cells=matrix_cells,
    heat_scale=heat_scale,
    breakable=breakable,
    combo=combo,
    modality_heads=heads,
    most_used=most_used,
    scale=scale,
    strip=strip,
    timeline_picture=picture,
)
_environment.globals.update(
    LOWER=LOWER,
    SHARES=SHARES,
    BOUNDED=BOUNDED,
    LEAST=LEAST,
    LEAST_OF_A_CLASS=LEAST_OF_A_CLASS,
    TAIL_SHARE=TAIL_SHARE,
    TIGHT=TIGHT,
    STAGES=STAGES,
    VERSION=VERSION,
    DASH=DASH,
    bar_scale=bar_scale,
    interval_bar=interval_bar,
    sparkline=sparkline,
)
_TEMPLATES = Jinja2Templates(env=_environment)
