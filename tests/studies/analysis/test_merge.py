"""`remind analyze RUN --merge-experts`: a model that predicts, and what merging costs each group."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from remind import groups
from remind.data.cohort.cohort import TEST
from remind.errors import UserError
from remind.prediction.bundle import read_bundle
from remind.prediction.predictor import load
from remind_studies.analysis.command import analyze_command
from remind_studies.analysis.merge import as_text
from remind_studies.analysis.patients import Patients
from tests.builders.analysed_runs import small_config, train

app = typer.Typer(pretty_exceptions_enable=False)
app.command("analyze")(analyze_command)


def analyze(*words):
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_merged_model_is_written_with_every_hospitals_part(folder, tmp_path):
    said = analyze(folder, "--merge-experts", 2, "--out", tmp_path / "small")
    before, after = read_bundle(folder), read_bundle(tmp_path / "small")
    assert after.config.model.experts == 2
    assert after.config.model.merged
    assert before.sites == after.sites
    phi = "fusion.blocks.0.router.phi_DES"
    assert after.tensors[phi].shape[1] == 2
    assert before.tensors[phi].shape[1] == 4
    for site in after.sites:
        assert torch.equal(after.part(site).tensors[phi], after.tensors[phi]), "hospitals have the same model"
    content = json.loads((tmp_path / "small" / "merged.json").read_text())
    (block,) = content["blocks"]
    assert sorted(e for cluster in block for e in cluster["experts"]) == [0, 1, 2, 3]
    assert sum(cluster["use"] for cluster in block) == pytest.approx(1, abs=1e-4)
    assert {row["patients"] for row in content["cost"]} >= {"all patients", "tail patients"}
    assert as_text(content["cost"]) in said
    final = {row["group"]: row for row in json.loads((folder / "final.json").read_text()) if row["site"] == "all"}
    whole = content["cost"][0]
    assert whole["auroc_before"] == pytest.approx(next(r for g, r in final.items() if g == "all")["auroc"], abs=1e-6)
    assert whole["log_loss_after"] != whole["log_loss_before"]


def test_the_merged_model_predicts_what_its_scores_say(folder, hospitals, tmp_path):
    """`remind.load` reads the folder; its log-loss of all test patients is the one that was printed."""
    analyze(folder, "--merge-experts", 2, "--out", tmp_path / "small")
    whole = json.loads((tmp_path / "small" / "merged.json").read_text())["cost"][0]
    losses = []
    for site in hospitals.sites:
        of = site.cohort.take(site.engine.patients.index[TEST])
        told = load(tmp_path / "small", site.name).outputs(of)
        losses += [-log_p_C[y] for log_p_C, y in zip(told.log_p_NC, of.label_N, strict=True)]
    assert whole["log_loss_after"] == pytest.approx(np.mean(losses), abs=1e-4)


@pytest.mark.parametrize(
    ("number", "words"),
    [(4, "the model has 4 experts; give a number from 1 to 3"), (9, "the model has 4 experts")],
)
def test_a_wrong_number_is_one_message(folder, tmp_path, number, words):
    with pytest.raises(UserError, match=words):
        analyze(folder, "--merge-experts", number, "--out", tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_what_it_needs_is_said(folder, tmp_path):
    for words in ([], ["--out", tmp_path / "o", "--final"], ["--out", tmp_path / "o", "--num-clients", 3]):
        with pytest.raises(UserError, match=r"needs the results folder of a finished run and --out.*--min-count alone"):
            analyze(folder, "--merge-experts", 2, *words)
    assert not (tmp_path / "o").exists()
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="exists already"):
        analyze(folder, "--merge-experts", 2, "--out", tmp_path / "there")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method__rule": "ditto"}, "each hospital has experts of its own"),
        ({"method__rule": "local", "method__objective": "erm"}, "each hospital has experts of its own"),
        ({"method__fusion": "attention"}, "has no experts"),
    ],
)
def test_what_cannot_be_merged_is_refused(tmp_path, changes, words):
    train(tmp_path / "run", small_config(train__warmup_rounds=1, train__routing_rounds=1, **changes))
    with pytest.raises(UserError, match=words):
        analyze(tmp_path / "run", "--merge-experts", 2, "--out", tmp_path / "small")


def patients(numbers):
    """Test patients: of each group the numbers of both classes."""
    rows = [(k, c) for k, of in numbers.items() for c, n in enumerate(of) for _ in range(n)]
    group_N, label_N = (np.array(column) for column in zip(*rows, strict=True))
    person_N = np.array([f"p{i}" for i in range(len(rows))])
    return Patients(group_N, np.full(len(rows), TEST), label_N, person_N, classes=2)


def test_no_shown_score_tells_of_a_small_class():
    own = patients({1: (50, 50), 2: (30, 3), 3: (40, 40)})
    sets = {"all": {1, 2, 3}, "tail": {2}, "one": {1}, "two": {2}, "three": {3}}
    assert own.scored(sets, 1) == sets.keys()
    shown = own.scored(sets, 10)
    assert not shown & {"two", "tail"}, "three patients of a class"
    assert len(shown) == 2, "of all, one and three any two; the third would be the difference that is small"
    few_persons = replace(own, person_N=np.where(own.group_N == 3, "p", own.person_N))
    assert "three" not in few_persons.scored(sets, 10)


def test_the_command_shows_no_score_of_few(folder, hospitals, tmp_path):
    analyze(folder, "--merge-experts", 2, "--out", tmp_path / "small", "--min-count", 15)
    rows = {row["patients"] for row in json.loads((tmp_path / "small" / "merged.json").read_text())["cost"]}
    found, names = Patients.of(hospitals), hospitals.schema.names
    test_N = found.part_N == TEST
    for k in np.unique(found.group_N).tolist():
        of_class = [int((test_N & (found.group_N == k) & (found.label_N == c)).sum()) for c in range(2)]
        assert groups.name(k, names) not in rows or all(n >= 15 or n == 0 for n in of_class)
    assert "all patients" in rows
