"""The choices of a setting are listed in one place: a second list would be forgotten when the first one grows."""

import ast
from collections import defaultdict
from pathlib import Path
from typing import get_args

from remind.config import SINKS
from remind.config.data import SyntheticConfig
from remind.data.synthetic.laws import LAWS
from remind_server.run_observers import MAKERS

ROOT = Path(__file__).parents[1]
SOURCES = ("remind", "server", "client", "studies")
FEW = 3  # shorter lists, such as "error" and "drop", can be alike by chance


def literals(text: str) -> list[tuple[frozenset[str], int]]:
    """The words of every Literal of a module, with its line."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
            items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            words = {item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)}
            if len(words) >= FEW and len(words) == len(items):
                found.append((frozenset(words), node.lineno))
    return found


def repeated(texts: dict[str, str]) -> dict[frozenset[str], list[str]]:
    places = defaultdict(list)
    for name, text in texts.items():
        for words, line in literals(text):
            places[words].append(f"{name}:{line}")
    return {words: found for words, found in places.items() if len(found) > 1}


def test_no_list_of_choices_is_written_twice():
    files = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")]
    assert repeated({str(path.relative_to(ROOT)): path.read_text("utf-8") for path in files}) == {}


def test_a_second_list_is_found():
    texts = {"a": "x: Literal['p', 'q', 'r']", "b": "Kind = Literal['r', 'p', 'q']", "c": "y: Literal['p', 'q']"}
    assert repeated(texts) == {frozenset("pqr"): ["a:1", "b:1"]}


def test_choices_that_name_what_exists_name_all_of_it():
    assert set(get_args(SyntheticConfig.model_fields["law"].annotation)) == {*LAWS, "independent"}
    assert set(MAKERS) == SINKS
