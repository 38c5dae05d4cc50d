"""Imports point down: no circle between modules or parts of a package; packages and parts of remind stand in order."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DESIGN = (ROOT / "docs" / "design.md").read_text("utf-8")
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


def floors_of(text: str) -> dict[str, tuple[str, ...]]:
    """The floors of each package in docs/design.md, the lowest first: names of parts, separated by spaces."""
    block = text.split("### Floors\n")[1]
    found: dict[str, dict[int, str]] = {}
    number = 0
    for line in block.splitlines():
        if new := re.fullmatch(r" {4}(\w+)", line):
            package = new[1]
            found[package] = {}
        elif part := re.fullmatch(r" {6}([ \d]{2})  (\S.*)", line):
            number = int(part[1]) if part[1].strip() else number
            found[package][number] = f"{found[package].get(number, '')} {part[2]}"
        elif found and line and not line.startswith(" "):
            break
    return {package: tuple(floors[n] for n in range(1, len(floors) + 1)) for package, floors in found.items()}


# Parts of each package, the lowest floor first: a part imports parts of lower floors of its package alone.
FLOORS = floors_of(DESIGN)

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
    assert here - optional <= named <= here, (
        "a new part has a floor in docs/design.md; single files outside remind need none"
    )
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


@pytest.mark.parametrize("package", PACKAGES)
def test_the_house_lists_every_folder_of_a_package_and_no_other(package):
    of_package = re.split(r"^ {4}(?=\S)", DESIGN.split("## The house\n")[1].split("\n### ")[0], flags=re.MULTILINE)
    (own,) = [text for text in of_package if text.split("/ ")[0].split("/")[-1].strip() == package]
    listed = {name for line in own.splitlines()[1:] for name in re.findall(r"(?:^ {6}|(?<=/ ))(\w+)/(?= )", line)}
    folders = {path.name for path in PACKAGES[package].iterdir() if (path / "__init__.py").exists()}
    assert listed == folders


def test_a_folder_of_many_files_has_a_reason():
    """In the list of docs/design.md, which names no folder that is not there."""
    listed = DESIGN.split("\nA folder of more than 25 files has a reason")[1].split("\n\n")[1]
    named = {name for line in listed.splitlines() for name in re.findall(r"`([\w/]+)/`", line.partition(":")[0])}
    here = {path.parent for package in PACKAGES.values() for path in package.rglob("*.py")}
    places = {str(path.relative_to(ROOT)): len([*path.glob("*.py")]) for path in here}
    assert all(any(f"/{place}".endswith(f"/{name}") for place in places) for name in named)
    many = {place for place, files in places.items() if files > 25}
    assert {place for place in many if not any(f"/{place}".endswith(f"/{name}") for name in named)} == set()
    assert many


def test_every_package_has_floors_and_a_floor_may_take_several_lines():
    assert FLOORS.keys() == PACKAGES.keys()
    text = "### Floors\n\n    one\n       2  c d\n          e\n       1  a\n\nNext.\n\n    two\n       1  b\n"
    assert [floor.split() for floor in floors_of(text)["one"]] == [["a"], ["c", "d", "e"]]


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


def from_tests(text: str) -> list[str]:
    """The modules of tests that a module takes names out of, with its lines."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    return [f"{node.lineno}: {node.module}" for node in nodes if re.match(r"tests\.(?:.*\.)?test_", node.module or "")]


def test_no_test_takes_names_out_of_a_module_of_tests():
    """What several tests need lies in tests/builders; a contract is imported as a whole module."""
    texts = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")}
    assert {name: found for name, text in texts.items() if (found := from_tests(text))} == {}
    assert from_tests("from tests.client.test_bundle import fab") == ["1: tests.client.test_bundle"]
    assert from_tests("from tests.fusion import test_every_method as contract") == []
