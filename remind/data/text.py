"""One text for one value, however a file stores it: 1, 1.0, "1" and "1.0" are the same level."""

from math import isfinite, isnan
from typing import Any


def id_text(value: Any) -> str | None:
    """Text of an identifier; None if empty. ``"007"`` stays as it is; a whole float loses its ``.0``."""
    if isinstance(value, float):
        if isnan(value):
            return None
        value = int(value) if value.is_integer() else value
    return str(value).strip() or None if value is not None else None


def level_text(value: Any) -> str | None:
    """Text of a level, class, item or site; None if empty. Numbers and booleans have one spelling each."""
    text = id_text(value)
    if text is None or text.lower() in ("true", "false"):
        return text.lower() if text else None
    if text.lstrip("+-").isdecimal():
        return str(int(text))
    number = number_of(text)
    return id_text(number) if number is not None and isfinite(number) else text


def number_of(text: str) -> float | None:
    """Number that `text` spells, with a decimal point; None if it spells none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None
