"""Write a report as one self-contained HTML file, without scripts and without network access."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from remind.errors import UserError
from remind.files import write_whole


def environment(package: str) -> Environment:
    """Return the templates of a package; values are escaped, and a missing name is an error."""
    made = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["breakable"] = breakable
    return made


def breakable(name: str) -> Markup:
    """Return a group's escaped name, with a possible line break after each modality."""
    return Markup("+<wbr>").join(escape(part) for part in name.split("+"))


def write_html(page: str, path: Path) -> Path:
    """Write a page; replace an existing file atomically.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    try:
        write_whole(path, lambda file: file.write_text(page, encoding="utf-8"), private=True)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror or error}; give another folder with --out"
        ) from None
    return path
