"""Flower's private modules are imported in the files that collect what is known of them, and nowhere else."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy"}
ALLOWED = {
    "client/remind_client/flower_internals.py",
    "server/remind_server/flower_internals.py",
    "server/remind_server/consortium/flower.py",
    "benchmarks/peers/flower.py",  # what is compared with: Flower's own simulation
    "benchmarks/peers/ours.py",
}
NAMED = {"_flwr_boot.py": {"flwr.cli.app"}}  # runs at every start of Python and imports nothing: it waits for this name


def private(source: str) -> set[str]:
    """Names of Flower's private modules that a program imports, or names to have them imported."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "flwr" else set()
            found |= submodules or {node.module}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts = node.value.split(".")
            if len(parts) > 1 and all(part.isidentifier() for part in parts):
                found.add(node.value)
    return {name for name in found if name.split(".")[0] == "flwr" and name not in PUBLIC}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from flwr.app import Message", set()),
        ("from flwr.app.message import Array", {"flwr.app.message"}),
        ("from flwr import simulation", {"flwr.simulation"}),
        ("from flwr import clientapp", set()),
        ("import flwr", {"flwr"}),
        ("def f():\n    import flwr.supercore.run as r", {"flwr.supercore.run"}),
        ("importlib.import_module('flwr.superlink')", {"flwr.superlink"}),
        ("from .flwr import x", set()),
        ("'of flwr.supercore, in words'", set()),
    ],
)
def test_what_counts_as_private(line, expected):
    assert private(line) == expected


def test_private_modules_stay_in_their_files():
    users = {}
    for folder in ("remind", "server", "client", "studies", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if names := private(path.read_text(encoding="utf-8")) - NAMED.get(path.name, set()):
                users[path.relative_to(ROOT).as_posix()] = names
    assert users.keys() == ALLOWED, {file: names for file, names in users.items() if file not in ALLOWED}
