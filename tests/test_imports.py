"""Imports point down: no circle between modules or parts of a package; packages and parts of remind stand in order."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "remind": ROOT / "remind",
    "remind_server": ROOT / "server" / "remind_server",
    "remind_client": ROOT / "client" / "remind_client",
    "remind_studies": ROOT / "studies" / "remind_studies",
}
MAY_IMPORT = {
    "remind": set(),
    "remind_server": {"remind"},
    "remind_client": {"remind"},
    "remind_studies": {"remind", "remind_server", "remind_client"},
}
# Parts of each package, the lowest floor first: a part imports parts of lower floors of its package alone.
FLOORS: dict[str, tuple[str, ...]] = {
    "remind": (
        "disk durations errors files former_names hash_chain presets quoting seeds suggest version",
        "invalid",
        "cli_options config consortium extensions groups model_file privacy processes",
        "alerts backup config_toml metrics paths registry secagg web",
        "outcomes",
        "config_pairs data fusion privacy_plan",
        "encoders objectives",
        "training",
        "federation",
        "prediction",
        "export",
        "methods methods_list",
        "global_model privacy_reach secure_settings",
        "adaptation",
        "api cli",
    ),
    "remind_server": (
        "flower_internals outputs",
        "alerting rounds sinks store",
        "dashboard run_observers",
        "simulation",
        "consortium",
        "app",
    ),
    "remind_client": (
        "audit cohort_cache coordinator exit_codes flower_internals identity policy question site_option",
        "ledger vault",
        "refusal site_config store",
        "approval engine initialise predict retention run_plan vault_begin",
        "export privacy_form rounds serving",
        "load",
        "adaptation app",
        "adapt launcher",
        "adapt_into model_commands supernode",
        "supervisor",
        "checks",
        "command",
        "__main__",
    ),
    "remind_studies": (
        "html made yardsticks",
        "cells",
        "study",
        "arms results stored_request tuning",
        "report studies",
        "analysis bench",
        "command",
    ),
}

Edges = Mapping[str, set[str]]


def imports_of(text: str, module: str, known: Iterable[str], package: bool = False) -> set[str]:
    """Modules of `known` that a module's text names in its imports, wherever in the file they stand."""
    known, found = set(known), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            above = module.split(".")
            above = above[: len(above) - node.level + package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return (found & known) - {module}


def edges_of_the_tree() -> Edges:
    files = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {m: imports_of(p.read_text("utf-8"), m, files, p.name == "__init__.py") for m, p in files.items()}


EDGES = edges_of_the_tree()


def part(module: str) -> str:
    """The part of its package that a module belongs to: ``remind.fusion`` of ``remind.fusion.base``."""
    return ".".join(module.split(".")[:2])


def between(edges: Edges, of) -> Edges:
    found = defaultdict(set)
    for module, targets in edges.items():
        found[of(module)] |= {of(target) for target in targets} - {of(module)}
    return found


def circle(edges: Edges) -> list[str]:
    """Names that import each other in a circle; none where there is no circle."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def without_roots(edges: Edges) -> Edges:
    """Without the packages themselves: their ``__init__`` holds nothing but a docstring and, of remind, the version."""
    return {m: targets - set(PACKAGES) for m, targets in edges.items() if m not in PACKAGES}


def test_no_circle_between_modules():
    assert circle(EDGES) == []


def test_no_circle_between_the_parts_of_packages():
    assert circle(between(without_roots(EDGES), part)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_those_below_them(package):
    found = between(EDGES, lambda m: m.split(".")[0])[package]
    assert found <= MAY_IMPORT[package]


def test_no_circle_between_folders_inside_a_part():
    for depth in (3, 4):
        assert circle(between(without_roots(EDGES), lambda m, depth=depth: ".".join(m.split(".")[:depth]))) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_parts_of_a_package_stand_in_order_and_import_downwards(package):
    floors = [floor.split() for floor in FLOORS[package]]
    named = {name for floor in floors for name in floor}
    here = {part(m).partition(".")[2] for m in EDGES if m.startswith(f"{package}.")}
    optional = set() if package == "remind" else {name for name in here if (PACKAGES[package] / f"{name}.py").exists()}
    assert here - optional <= named <= here, "a new part has a floor in FLOORS; single files outside remind need none"
    height = {f"{package}.{name}": i for i, floor in enumerate(floors) for name in floor}
    assert upward(without_roots(EDGES), height) == []


def upward(edges: Edges, height: Mapping[str, int]) -> list[tuple[str, str]]:
    """Imports of a part on the same floor or on a higher one; `height` has the parts of one package."""
    return [
        (module, target)
        for module, targets in edges.items()
        for target in sorted(targets)
        if part(module) != part(target) and part(module) in height and part(target) in height
        if height[part(target)] >= height[part(module)]
    ]


def test_an_import_that_points_up_is_found_wherever_it_stands():
    text = {"remind.low.a": "def f():\n    from remind.high import b", "remind.high.b": "from remind.low import a"}
    edges = {module: imports_of(body, module, [*text, "remind.low", "remind.high"]) for module, body in text.items()}
    assert upward(edges, {"remind.low": 0, "remind.high": 1}) == [("remind.low.a", "remind.high.b")]


def test_a_circle_is_found_wherever_its_imports_stand():
    text = {
        "remind.a": "def f():\n    from remind.b import g",
        "remind.b": "from . import c",
        "remind.c": "import remind.a",
    }
    edges = {module: imports_of(body, module, text) for module, body in text.items()}
    assert set(circle(edges)) == set(text)
    assert circle({**edges, "remind.c": set()}) == []
