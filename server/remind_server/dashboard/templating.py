"""HTML from templates: all text is escaped, and filters format numbers uniformly."""

from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.templating import Jinja2Templates

from remind.durations import duration
from remind.groups import TAIL_SHARE
from remind.metrics.aggregates import LEAST, LEAST_OF_A_CLASS
from remind.metrics.scores import BOUNDED, SCORES, TIGHT, WITH_INTERVAL, WITHOUT_INTERVAL
from remind.version import VERSION
from remind_server.dashboard.answers import Estimate, Matrix
from remind_server.dashboard.strips import most_used, scale, strip
from remind_server.dashboard.timeline import picture

DASH = "–"  # for what is undefined
SCORE_NAMES = {name: SCORES[name].title[0].upper() + SCORES[name].title[1:] for name in WITH_INTERVAL}
LOSS_NAMES = {name: SCORES[name].title[0].upper() + SCORES[name].title[1:] for name in WITHOUT_INTERVAL}
MEANINGS = {name: score.meaning for name, score in SCORES.items()}
LOWER = tuple(name for name, score in SCORES.items() if score.lower_is_better)
SHARES = (*(name for name, score in SCORES.items() if score.within_one), "weight", "gate_open")  # in 0 … 1
STAGES = {1: "warm-up", 2: "routing"}
HEAT_STEPS = 10


def number(value: float | None, digits: int = 3) -> str:
    """Format a number; a dash if there is none."""
    return DASH if value is None else f"{value:.{digits}f}"


def interval(estimate: Estimate) -> str:
    """Format the 95 % interval of a score; empty if it is not known."""
    return "" if estimate.low is None else f"{number(estimate.low, 2)}–{number(estimate.high, 2)}"


def signed(value: float | None, digits: int = 3) -> str:
    """Format a difference with its sign; uses the minus sign U+2212."""
    return DASH if value is None else f"{value:+.{digits}f}".replace("-", "−")


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
    """CSS class of a score's cell: h0 (0.5 or worse) … h9 (1); of a score whose best is 0, h0 (0.5 or more) … h9 (0).

    Without colour if the score is no share.
    """
    if value is None or not SCORES[score].within_one:
        return ""
    value = 1 - value if SCORES[score].lower_is_better else value
    return f"h{min(max(int((value - 0.5) * 2 * HEAT_STEPS), 0), HEAT_STEPS - 1)}"


def matrix_cells(matrix: Matrix, row: int) -> Markup:
    """Return the cells of a row of the matrix: the score, and the number of patients below it.

    Written without a template, because one page may have tens of thousands of cells.
    """
    withheld = {j for i, j in matrix.withheld if i == row}
    cells = zip(matrix.n[row], matrix.value[row], strict=True)
    return Markup("".join(_matrix_cell(n, value, j in withheld, matrix.score) for j, (n, value) in enumerate(cells)))


def _matrix_cell(n: int | None, value: float | None, withheld: bool, score: str) -> str:
    if n is None:
        return '<td class="gone" title="too few patients to tell">withheld</td>'
    if withheld:
        return f'<td class="gone" title="score withheld">·\n{n}</td>'
    return f'<td class="{heat(value, score)}">{number(value, 2)}\n{n}</td>' if n else "<td></td>"


def breakable(text: str) -> Markup:
    """Return a group's escaped name, with a possible line break after each modality."""
    return Markup("+<wbr>").join(text.split("+"))


def page(request: Request, name: str, status: int = 200, **values: Any) -> Response:
    """The page made from a template."""
    return _TEMPLATES.TemplateResponse(request, name, values, status_code=status)


_environment = Environment(
    loader=PackageLoader("remind_server.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(
    number=number,
    signed=signed,
    interval=interval,
    duration=lambda seconds: DASH if seconds is None else duration(seconds),
    amount=amount,
    moment=moment,
    matrix_cells=matrix_cells,
    breakable=breakable,
    most_used=most_used,
    scale=scale,
    strip=strip,
    timeline_picture=picture,
)
_environment.globals.update(
    SCORE_NAMES=SCORE_NAMES,
    LOSS_NAMES=LOSS_NAMES,
    MEANINGS=MEANINGS,
    LOWER=LOWER,
    SHARES=SHARES,
    COLUMNS={name: score.column for name, score in SCORES.items()},
    BOUNDED=BOUNDED,
    LEAST=LEAST,
    LEAST_OF_A_CLASS=LEAST_OF_A_CLASS,
    TAIL_SHARE=TAIL_SHARE,
    TIGHT=TIGHT,
    STAGES=STAGES,
    VERSION=VERSION,
    DASH=DASH,
)
_TEMPLATES = Jinja2Templates(env=_environment)
