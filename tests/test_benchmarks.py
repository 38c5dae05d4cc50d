"""Benchmarks still fit the code they measure: each can be imported, and one of a step runs."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from remind.config import Config

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))  # as for a script
    monkeypatch.delitem(sys.modules, "soft_moe", raising=False)  # a package on PyPI has this name too
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_what_it_imports_is_there_and_it_says_what_it_takes(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0
    assert f"usage: {path.name}" in capsys.readouterr().out


@pytest.mark.slow
def test_group_routing_prints_a_ratio_for_each_gate(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["group_routing.py", "--size", "small", "--repeats", "2", "--steps", "1"])
    runpy.run_path(str(FOLDER / "group_routing.py"), run_name="__main__")
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) > 2
    assert all(0.2 < float(row[2]) < 5 for row in rows[1:])


def test_the_recommended_settings_are_the_defaults():
    candidates = runpy.run_path(str(FOLDER / "preset.py"))
    assert Config.from_flat(candidates["CANDIDATES"][candidates["DEFAULTS"]]) == Config()
