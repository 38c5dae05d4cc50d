"""MkDocs hook: the reference pages, written from the code at every build, so that they cannot fall behind it."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic.fields import FieldInfo

from remind.config import Config, Section
from remind.config_toml import literal

PACKAGES = ("remind", "remind_server", "remind_client", "remind_studies")
PYTHON = "reference/python"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give each page of Python modules its place in the navigation, under Reference."""
    (reference,) = (entry["Reference"] for entry in config.nav or [] if "Reference" in entry)
    reference.append({"Python modules": [{page: f"{PYTHON}/{page}.md"} for page in pages_of_modules()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    pages = {
        "reference/remind.md": commands("remind", remind_command()),
        "reference/remind-site.md": commands("remind-site", site_command()),
        "reference/settings.md": settings(),
    } | {f"{PYTHON}/{page}.md": modules(page, names) for page, names in pages_of_modules().items()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def remind_command() -> click.Command:
    """`remind` with the commands that the other packages add."""
    from remind.cli import whole_app

    return typer.main.get_command(whole_app())


def site_command() -> click.Command:
    """`remind-site`."""
    from remind_client.command import app

    return typer.main.get_command(app)


def commands(name: str, command: click.Command) -> str:
    """A page with every command below `command`: usage, arguments, options and their defaults."""
    parts = [
        f"# Commands of `{name}`",
        "Written from the code when this site is built.",
        *_command(name, command, None),
    ]
    return "\n\n".join(parts) + "\n"


def _command(path: str, command: click.Command, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, info_name=path.rsplit(" ", 1)[-1], parent=parent)
    if parent is not None:
        yield f"## `{path}`"
    if command.help:
        yield _text(command.help)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _command(f"{path} {name}", child, context)
        return
    yield f"    {command.get_usage(context).removeprefix('Usage: ')}"
    shown = [record for p in command.get_params(context) if (record := _parameter(p, context)) is not None]
    if shown:
        yield "\n".join(["| argument or option | meaning |", "| --- | --- |", *shown])


def _parameter(parameter: click.Parameter, context: click.Context) -> str | None:
    """A row of the table; None for what is not shown."""
    if isinstance(parameter, click.Argument):
        name = parameter.make_metavar(context)
        return f"| `{name}` | {_cell(getattr(parameter, 'help', None) or '')} |"
    record = parameter.get_help_record(context)
    return None if record is None else f"| `{_cell(record[0])}` | {_cell(record[1])} |"


def settings() -> str:
    """A page with every setting of a run: key, default, meaning."""
    parts = [
        "# Settings",
        "Keys of `--run-config`. `remind config` prints them as TOML. Written from the code when this site is built.",
    ]
    parts += _section(Config(), "")
    return "\n\n".join(parts) + "\n"


def _section(section: Section, table: str) -> list[str]:
    fields = type(section).model_fields
    rows = [_setting(table, name, field, section) for name, field in fields.items()]
    own = [row for row in rows if row]
    parts = [f"## {table}", _text(type(section).__doc__ or "")] if table else []
    if own:
        parts.append("\n".join(["| key | default | meaning |", "| --- | --- | --- |", *own]))
    for name in fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            parts += _section(value, f"{table}.{name}".lstrip(".").replace("_", "-"))
    return parts


def _setting(table: str, name: str, field: FieldInfo, section: Section) -> str:
    value = getattr(section, name)
    if isinstance(value, Section):
        return ""
    key = f"{table}.{name}".lstrip(".").replace("_", "-")
    return f"| `{key}` | `{literal(value)}` | {_cell(field.description or '')} |"


def pages_of_modules() -> dict[str, list[str]]:
    """Documented modules by page: a page for each folder directly below a package, one for the rest."""
    pages: dict[str, list[str]] = {}
    for package in PACKAGES:
        for name in _names(package):
            head, _, tail = name.removeprefix(f"{package}.").partition(".")
            folder = bool(tail) or hasattr(import_module(name), "__path__")
            pages.setdefault(f"{package}.{head}" if folder else package, []).append(name)
    return pages


def modules(page: str, names: list[str]) -> str:
    """A page with the public names of modules, from their docstrings."""
    return "\n\n".join([f"# {page}", *(f"::: {name}\n    options:\n      heading_level: 2" for name in names)]) + "\n"


def _names(package: str) -> Iterator[str]:
    for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
        leaf = module.name.rsplit(".", 1)[-1]
        if not leaf.startswith("_") and ".migrations" not in module.name:
            yield module.name


def _text(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
