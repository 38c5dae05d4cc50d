"""Parses the ``key=value`` pairs of ``--run-config``, ``--federation-config`` and ``remind config``."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remind.config import Scalar
from remind.config_toml import literal
from remind.errors import UserError
from remind.suggest import did_you_mean

_WORD = re.compile(r"[\w-]+")
_PAIR = re.compile(r"""\s*([\w.-]+)\s*=\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"']+)(?=\s|$)""")


def read_pairs(
    given: Sequence[str] | None, option: str, presets: Mapping[str, Path] | None = None
) -> dict[str, Scalar]:
    """Return values by key (``train.local-steps``) from the values of `option` as the user typed them.

    Each is a line of pairs, the name of a TOML file, or the name of one of `presets`. A later value wins.

    Raises
    ------
    UserError
        A file is missing or not TOML, or a text is not ``key=value``.
    """
    values: dict[str, Scalar] = {}
    for text in given or ():
        if presets is not None and _WORD.fullmatch(text.strip()):
            path = _preset(text.strip(), option, presets)
            values |= flatten(read_toml(path, option), f"{option} {text.strip()}")
        elif text.strip().endswith(".toml") and ("=" not in text or Path(text.strip()).expanduser().is_file()):
            values |= flatten(read_toml(Path(text.strip()).expanduser(), option), f"{option} {text.strip()}")
        else:
            values |= _parse(text, option)
    return {key.replace("_", "-"): value for key, value in values.items()}


def _preset(name: str, option: str, files: Mapping[str, Path]) -> Path:
    """Return the file of a preset; raise a UserError if there is no preset of this name."""
    if name not in files:
        raise UserError(
            f"{option}: not key=value: {name!r}{did_you_mean(name, files)}; write e.g. 'a=1 b=\"text\"', or name a "
            f"preset: {', '.join(files)} (remind is what the defaults are: it needs no name)"
        )
    return files[name]


def read_toml(path: Path, option: str) -> dict[str, Any]:
    """Return the content of a TOML file; raise a UserError with its name if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{option}: cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{option}: {path} is not valid TOML: {error}") from None


def flatten(tree: Mapping[str, Any], source: str, prefix: str = "") -> dict[str, Scalar]:
    """Return the values of nested tables by dotted key (``train.lr``)."""
    values: dict[str, Scalar] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            values |= flatten(value, source, f"{key}.")
        elif isinstance(value, str | int | float | bool):
            values[key] = value
        else:
            raise UserError(f"{source}: {key}: a number, a text or true/false is expected, not {value!r}")
    return values


def _parse(text: str, option: str) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _PAIR.match(text, position)
        if match is None:
            raise UserError(f"{option}: not key=value: {text[position:end].strip()!r}; write e.g. 'a=1 b=\"text\"'")
        key, value = match.groups()
        try:
            values |= flatten({key: tomllib.loads(f"value = {value}")["value"]}, option)
        except tomllib.TOMLDecodeError:
            if re.fullmatch(r"[-+]?\d+,\d+", value):
                point = value.replace(",", ".")
                raise UserError(f"{option}: {key}={value}: write a decimal point: {key}={point}") from None
            raise UserError(
                f"{option}: {key}={value}: not a number, true or false; a text needs quotes: {option} "
                f"'{key}={literal(value)}'"
            ) from None
        position = match.end()
    return values
