"""The key of a cell covers whole folders of code, which import no other parts of the studies."""

import ast
import importlib
import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

import remind_studies.cells
from remind_studies.cells.code import PACKAGES, code, folder_contents
from remind_studies.cells.runners import RUNNERS

CELLS = Path(remind_studies.cells.__file__).parent
ROOT = Path(__file__).parents[3]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that stands in for the libraries, so that its files can be edited."""
    root = tmp_path / "made_up"
    (root / "deep").mkdir(parents=True)
    for name in ("__init__.py", "steps.py", "deep/__init__.py", "deep/loss.py"):
        (root / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("remind_studies.cells.code.PACKAGES", ("made_up",))
    yield root
    sys.modules.pop("made_up", None)


def test_every_edited_added_removed_or_renamed_file_changes_the_digest(package):
    seen = [code()]
    for edit in (
        lambda: (package / "deep" / "loss.py").write_text("x = 2\n"),
        lambda: (package / "nobody_listed_me.py").write_text(""),
        lambda: (package / "table.json").write_text("{}"),
        lambda: (package / "steps.py").rename(package / "stairs.py"),
        (package / "deep" / "loss.py").unlink,
    ):
        edit()
        seen.append(code())
    assert len({tuple(parts) for parts in seen}) == len(seen)


@pytest.mark.parametrize("group", ["remind.extensions", "remind.scores"])
@pytest.mark.parametrize(("module", "edited"), [("waves.kind", "waves/kind.py"), ("wave_score", "wave_score.py")])
def test_an_edited_file_of_another_package_s_extension_changes_the_digest(
    package, tmp_path, monkeypatch, group, module, edited
):
    (tmp_path / "waves").mkdir()
    for name in ("waves/__init__.py", "waves/kind.py", "wave_score.py"):
        (tmp_path / name).write_text("x = 1\n")
    without = code()
    about = tmp_path / "waves-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: waves\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\nwave = {module}\n")
    importlib.invalidate_caches()
    seen = [code()]
    assert set(without) < set(seen[0])
    (tmp_path / edited).write_text("x = 2\n")
    assert code() != seen[0]
    (about / "entry_points.txt").write_text(f"[{group}]\nwave = nowhere.kind\n")
    with pytest.raises(FileNotFoundError, match="extension wave: there is no module nowhere"):
        code()


def test_every_library_that_the_project_declares_counts(package):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lists = [declared["dependencies"]]
    lists += [of for extra, of in declared["optional-dependencies"].items() if extra not in ("dev", "docs")]
    names = {re.split(r"[\[<>=;~! ]", one)[0] for of in lists for one in of} - {"federated-remind"}
    assert {"torch", "transformers", "xgboost-cpu"} <= names
    assert names <= {part.split()[0] for part in code()}
    assert not {"pytest", "mkdocs"} & {part.split()[0] for part in code()}


def test_what_python_leaves_behind_changes_nothing(package):
    before = code()
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "steps.cpython-311.pyc").write_bytes(b"\0")
    assert code() == before


def test_the_folder_of_cells_itself_counts_whole(tmp_path):
    copy = tmp_path / "cells"
    shutil.copytree(CELLS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = folder_contents(copy)
    assert {line.split()[0] for line in before} >= {f"cells/{path.name}" for path in CELLS.glob("*.py")}
    for path in sorted(copy.glob("*.py")):
        text = path.read_text()
        path.write_text(text + "# edited\n")
        assert folder_contents(copy) != before, path.name
        path.write_text(text)


def test_a_package_that_is_not_there_is_an_error_and_not_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr("remind_studies.cells.code.PACKAGES", (*PACKAGES, "remind_renamed"))
    with pytest.raises(ModuleNotFoundError):
        code()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no files"):
        folder_contents(tmp_path / "empty")


def test_cells_import_nothing_that_their_key_does_not_hold():
    """Of this project: every import, also within functions, is of a package that is hashed whole."""
    ours = {"remind", "remind_server", "remind_client", "remind_studies"}
    for path in CELLS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.split(".")[0] in ours:
                    assert any(name == package or name.startswith(f"{package}.") for package in PACKAGES), (path, name)


def test_every_runner_lies_in_the_folder():
    for reference in RUNNERS.values():
        module = importlib.import_module(reference.partition(":")[0])
        assert Path(module.__file__).parent == CELLS
