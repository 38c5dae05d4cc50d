"""Write analysis.html: the numbers of an analysis as one page."""

from functools import lru_cache
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from remind_studies.analysis.document import Analysis
from remind_studies.analysis.figures import pictures
from remind_studies.analysis.tables import number, tables
from remind_studies.analysis.words import sentences
from remind_studies.html import environment, write_html


def write_page(analysis: Analysis, path: Path) -> Path:
    """Write the page; a file of that name is replaced, at once.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    return write_html(render(analysis), path)


def render(analysis: Analysis) -> str:
    """Render the page as HTML; it is the same for the same numbers."""
    return (
        _environment()
        .get_template("analysis.html")
        .render(
            analysis=analysis,
            pictures=pictures(analysis),
            tables=tables(analysis),
            sentences=sentences(analysis),
            number=number,
        )
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = environment("remind_studies.analysis")
    style, _, _ = made.loader.get_source(made, "analysis.css")  # type: ignore[union-attr]
    made.globals["style"] = Markup(style)  # our own file
    return made
