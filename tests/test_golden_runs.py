"""The comparison of two commits' runs sees any change of a number, and knows what the older commit lacks."""

import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

FOLDER = Path(__file__).parents[1] / "benchmarks"
TABLE = "site,group,auroc\nall,all,0.75\n"


@pytest.fixture
def golden(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import golden_runs  # type: ignore[import-not-found]

    return golden_runs


def run(folder, value=0.1, table=TABLE, said=""):
    """What a run leaves: its model, its final table, and its output beside the folder."""
    folder.mkdir(parents=True)
    save_file({"w": np.array([value], dtype=np.float32)}, folder / "model.safetensors")
    (folder / "final.csv").write_text(table, encoding="utf-8")
    folder.with_suffix(".log").write_text(said, encoding="utf-8")
    return folder


def failed(folder, said):
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.with_suffix(".log").write_text(said, encoding="utf-8")
    return folder


def test_equal_runs_are_the_same(golden, tmp_path):
    assert golden._verdict(run(tmp_path / "a" / "m"), run(tmp_path / "b" / "m")) == "same"


@pytest.mark.parametrize(
    "other",
    [{"value": np.nextafter(np.float32(0.1), np.float32(1))}, {"table": TABLE.replace("0.75", "0.7500000000000001")}],
    ids=["last bit of a tensor", "last digit of a score"],
)
def test_the_last_bit_counts(golden, tmp_path, other):
    assert golden._verdict(run(tmp_path / "a" / "m"), run(tmp_path / "b" / "m", **other)) == "DIFFERENT"


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("error: method.rule: there is no 'scaffold'; did you mean 'lg'?", "new"),
        ("  - method.aggregator: no such key; did you mean 'method.rule'?", "new"),
        ("error: there is no space left on the device", "FAILED"),
        ("", "FAILED"),
    ],
)
def test_what_the_older_commit_does_not_know_is_new(golden, tmp_path, said, verdict):
    assert golden._verdict(failed(tmp_path / "a" / "m", said), run(tmp_path / "b" / "m")) == verdict


def test_a_run_that_fails_today_is_not_new(golden, tmp_path):
    said = "error: method.rule: there is no 'scaffold'"
    assert golden._verdict(run(tmp_path / "a" / "m"), failed(tmp_path / "b" / "m", said)) == "FAILED"
    assert said in golden._reason(tmp_path / "a" / "m", tmp_path / "b" / "m")


def test_every_method_has_a_run(golden):
    from remind.methods_list import KINDS

    names = {name for name, _ in golden._runs()}
    assert names >= {f"{kind}-{method.name}" for kind, registry in KINDS for method in registry.methods()}
    assert names >= {"encoders-local", "encoders-frozen", "encoders-shared"}


@pytest.mark.slow
def test_methods_are_the_same_as_in_the_last_commit(golden, monkeypatch, capsys):
    """Both sides are the last commit, so that the test judges the comparison and not the work in progress."""
    names = ["fusion-moe_retriever", "aggregator-krum"]
    monkeypatch.setattr(sys, "argv", ["golden_runs.py", "HEAD", "HEAD", *(w for n in names for w in ("--only", n))])
    assert golden.main() == 0
    assert capsys.readouterr().out.splitlines() == [
        *(f"same      {n}" for n in names),
        "2 runs, 0 of them not the same",
    ]
