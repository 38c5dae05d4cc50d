"""Writes the config tree as TOML text, for ``simulation/pyproject.toml`` and ``remind config``."""

from typing import Literal, get_args, get_origin

from remind.config import Config, Scalar, Section

# A quote is written \u0022, not \", because Flower's --run-config takes the first quote as the end of a value.
_ESCAPES = {code: f"\\u{code:04X}" for code in (*range(0x20), 0x22, 0x7F)} | {ord("\\"): "\\\\"}


def literal(value: Scalar) -> str:
    r"""Return the TOML literal of a scalar, on one line and without a quote inside text (``"a\u0022b"``)."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    return repr(value)


def to_toml(config: Config, table: str = "") -> str:
    """Write every field of `config` with its description as a comment, one table per section.

    Parameters
    ----------
    config : Config
        The values to write.
    table : str
        Table under which they stand (``tool.flwr.app.config``); empty for a file of their own.
    """
    return "\n\n".join(_tables(config, table)) + "\n"


def _tables(section: Section, table: str) -> list[str]:
    lines = [f"[{table}]"] if table else []
    nested: list[str] = []
    for name, field in type(section).model_fields.items():
        key, value = name.replace("_", "-"), getattr(section, name)
        if isinstance(value, Section):
            nested += _tables(value, f"{table}.{key}".lstrip("."))
            continue
        comment = field.description or ""
        if get_origin(field.annotation) is Literal:
            comment += f" ({' | '.join(get_args(field.annotation))})"
        lines.append(f"{key} = {literal(value)}  # {comment}")
    return ["\n".join(lines), *nested]
