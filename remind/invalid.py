"""Describes validation errors of a file in the terms of its author: field, expectation, value, remedy."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from remind.suggest import did_you_mean

LONGEST = 120  # letters of a value that is repeated
_EXPECTED: Mapping[str, str] = {
    "string_type": "must be a text, in quotation marks",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list, in brackets",
    "list_type": "must be a list, in brackets",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "has {actual_length} entries; give at least {min_length}",
    "too_long": "has {actual_length} entries; give at most {max_length}",
}
_WITHOUT_VALUE = ("missing", "extra_forbidden", "too_short", "too_long")


def invalid(
    error: ValidationError,
    of: type[BaseModel],
    secret: bool = False,
    moved: Mapping[str, str] | None = None,
) -> list[str]:
    """Return one line per problem. Entries of lists are counted from 1: ``webhook 1.url``.

    Parameters
    ----------
    of
        The model of the file: names that are similar to an unknown one are suggested.
    secret
        Whether values may be secrets, and are not repeated.
    moved
        Field of an earlier version → what is written now in its place.
    """
    lines = []
    for item in error.errors(include_url=False):
        path = [part for part in item["loc"] if part != "[key]"]
        field = written(path) or "the file as a whole"
        lines.append(f"{field}: {(moved or {}).get(field) or _what(dict(item), path, of, secret)}")
    return lines


def written(path: Sequence[int | str]) -> str:
    """Return the place of a field in a file: names joined by dots, entries of lists counted from 1."""
    text = ""
    for part in path:
        text += f" {part + 1}" if isinstance(part, int) else f".{part}" if text else part
    return text.strip()


def _what(item: dict[str, Any], path: Sequence[int | str], of: type[BaseModel], secret: bool) -> str:
    kind, value, context = str(item["type"]), item["input"], item.get("ctx", {})
    if kind == "missing":
        return "missing; add it"
    if kind == "extra_forbidden":
        return f"no such setting{did_you_mean(str(path[-1]), _names(of, path[:-1]))}; remove it"
    if kind == "string_too_short":
        return "must not be empty" if context["min_length"] == 1 else f"needs {context['min_length']} letters or more"
    if kind in _EXPECTED:
        what = _EXPECTED[kind].format(**context)
    else:
        what = str(item["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    hint = did_you_mean(str(value), _choices(str(context["expected"]))) if kind == "literal_error" else ""
    if secret or kind in _WITHOUT_VALUE or isinstance(value, Mapping | BaseModel):
        return what + hint
    shown = repr(value)
    return what + (f" (given: {shown})" if len(shown) <= LONGEST else "") + hint


def _choices(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").replace("'", "").split(", ")


def _names(model: type[BaseModel], path: Sequence[int | str]) -> tuple[str, ...]:
    """Return the fields of the section at this place; none if there are several kinds of section."""
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        sections = [] if field is None else [one for one in _types(field.annotation) if _is_section(one)]
        if len(sections) != 1:
            return ()
        model = sections[0]
    return tuple(model.model_fields)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _types(annotation: Any) -> list[Any]:
    inner = get_args(annotation)
    return [one for argument in inner for one in _types(argument)] if inner else [annotation]
