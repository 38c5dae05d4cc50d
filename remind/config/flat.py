"""The tree as run-config keys (``train.local-steps``), and what is wrong with them in the user's words."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from remind.config.section import Scalar
from remind.suggest import did_you_mean


def flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Scalar]]:
    """Return every field of a dumped config by its run-config key, in the tree's order."""
    pairs: list[tuple[str, Scalar]] = []
    for field, value in tree.items():
        key = prefix + field.replace("_", "-")
        pairs += flatten(value, key + ".") if isinstance(value, dict) else [(key, value)]
    return pairs


def problems(error: ValidationError, keys: Iterable[str]) -> list[str]:
    """Return one line per problem: key, value, expectation; `keys` are all valid keys."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]).replace("_", "-") or "config"
        if item["type"] == "extra_forbidden":
            lines.append(
                f"{key}: no such key{did_you_mean(key, keys)}; `remind config` lists all keys with their defaults"
            )
        else:
            seen = "" if isinstance(item["input"], dict) else f", not {item['input']!r}"
            choices = item.get("ctx", {}).get("expected", "") if item["type"] == "literal_error" else ""
            hint = did_you_mean(str(item["input"]), re.findall(r"'([^']*)'", str(choices)))
            lines.append(f"{key}: {item['msg'].removeprefix('Value error, ')}{seen}{hint}")
    return lines
