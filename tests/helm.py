"""The part of helm's template language that our charts use: values, quote, if, toJson, nindent. No more."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_ACTION = re.compile(r"(\n[ \t]*)?\{\{(-?) *(.*?) *\}\}")


def rendered(chart: Path, name: str, release: str = "heart", **changes: Any) -> str:
    """A template of a chart with its default values, and with these `changes` of top-level values.

    Raises
    ------
    AssertionError
        For a construct that is not known here.
    """
    known = {
        "Values": yaml.safe_load((chart / "values.yaml").read_text()) | changes,
        "Chart": {k[0].upper() + k[1:]: v for k, v in yaml.safe_load((chart / "Chart.yaml").read_text()).items()},
        "Release": {"Name": release},
    }
    return _render((chart / "templates" / name).read_text(), known)


def manifest(chart: Path, name: str, **changes: Any) -> dict[str, Any]:
    """The same, read as YAML."""
    found: dict[str, Any] = yaml.safe_load(rendered(chart, name, **changes))
    return found


def _render(text: str, known: Mapping[str, Any]) -> str:
    out, shown, position = [], [True], 0
    for match in _ACTION.finditer(text):
        space, trim, action = match.groups()
        if shown[-1]:
            out.append(text[position : match.start()] + ("" if trim else space or ""))
        position = match.end()
        if action == "end":
            shown.pop()
        elif action.startswith("if "):
            shown.append(shown[-1] and bool(_look_up(action.removeprefix("if "), known)))
        elif shown[-1]:
            out.append(_value(action, known))
    assert len(shown) == 1, "an end is missing"
    return "".join(out) + text[position:]


def _value(action: str, known: Mapping[str, Any]) -> str:
    if found := re.fullmatch(r"([.\w]+) \| nindent (\d+)", action):
        text = str(_look_up(found[1], known))
        return "".join(f"\n{' ' * int(found[2])}{line}" for line in text.strip().splitlines())
    if found := re.fullmatch(r"toJson ([.\w]+)", action):
        return json.dumps(_look_up(found[1], known))
    if found := re.fullmatch(r'toJson \(concat \(list \(dict "name" "(\S+)" "value" "(\S+)"\)\) ([.\w]+)\)', action):
        return json.dumps([{"name": found[1], "value": found[2]}, *_look_up(found[3], known)])
    if action == 'include (print $.Template.BasePath "/configmap.yaml") . | sha256sum':
        return "0" * 64
    path, _, pipe = action.partition(" | ")
    if path == 'printf "/data/%s" .Values.cohort.path':
        return json.dumps("/data/" + _look_up(".Values.cohort.path", known))
    value = _look_up(path, known)
    assert isinstance(value, str | int), action
    assert pipe in ("", "quote"), f"a construct that the tests do not know: {action}"
    return json.dumps(str(value)) if pipe else str(value)


def _look_up(path: str, known: Mapping[str, Any]) -> Any:
    assert re.fullmatch(r"(\.\w+)+", path), f"a construct that the tests do not know: {path}"
    value: Any = known
    for part in path.strip(".").split("."):
        assert part in value, f"{path} is not in values.yaml"
        value = value[part]
    return value
