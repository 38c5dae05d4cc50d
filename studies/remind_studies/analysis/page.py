"""analysis.html: the numbers of an analysis as one page that needs nothing else, neither scripts nor a network."""

from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from remind.errors import UserError
from remind.files import write_whole
from remind_studies.analysis.document import Analysis
from remind_studies.analysis.figures import pictures
from remind_studies.analysis.tables import number, tables
from remind_studies.analysis.words import sentences


def write_page(analysis: Analysis, path: Path) -> Path:
    """Write the page; a file of that name is replaced, at once.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    page = render(analysis)
    try:
        write_whole(path, lambda file: file.write_text(page, encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror or error}; name another folder with --out"
        ) from None
    return path


def render(analysis: Analysis) -> str:
    """The page as HTML; the same for the same numbers."""
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


def breakable(name: str) -> Markup:
    """A group's name that may break after each modality."""
    return Markup("+<wbr>").join(name.split("+"))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("remind_studies.analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    style, _, _ = environment.loader.get_source(environment, "analysis.css")  # type: ignore[union-attr]
    environment.globals["style"] = Markup(style)  # our own file
    return environment
