import json
import subprocess
import sys
from html import unescape

import pytest
import typer
from typer.testing import CliRunner

from remind.errors import UserError
from remind_studies.analysis.command import analyze_command
from remind_studies.analysis.document import Analysis
from tests.builders.analysed_runs import SMALL, small_config, train

app = typer.Typer(pretty_exceptions_enable=False)
app.command("analyze")(analyze_command)


def analyze(*words):
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def read(folder):
    return Analysis.model_validate_json((folder / "analysis.json").read_text(encoding="utf-8"))


def settings(**changes):
    flat = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    return " ".join(f"{key}={json.dumps(value)}" for key, value in flat.items())


@pytest.mark.slow
def test_a_stored_run_is_trained_again_and_ends_as_it_was(folder, tmp_path):
    said = analyze(folder, "--patients", 6, "--out", tmp_path / "out")
    assert "analysis.html" in said
    found = read(tmp_path / "out")
    run, soft = found.models
    assert (run.name, soft.name) == ("remind", "softmoe")
    assert run.replay.equal
    assert soft.replay is None
    assert [look.rounds for look in run.looks] == [0, 2, 4]
    assert run.experts.experts == soft.experts.experts == 4
    assert run.gate.opens_at == 0.92
    assert soft.gate is None
    assert run.drawn == soft.drawn
    assert {(v.mask, v.modality, v.n, v.loss.seen) for v in run.modality_value} != {
        (v.mask, v.modality, v.n, v.loss.seen) for v in soft.modality_value
    }
    assert [(v.mask, v.modality, v.n) for v in run.modality_value] == [
        (v.mask, v.modality, v.n) for v in soft.modality_value
    ]
    assert "softmoe" in unescape((tmp_path / "out" / "analysis.html").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_final_model_alone_gives_the_same_numbers_without_training(folder, tmp_path):
    analyze(folder, "--patients", 6, "--against", "none", "--every", 3, "--out", tmp_path / "again")
    analyze(folder, "--patients", 6, "--final", "--out", tmp_path / "final")
    (again,), (final,) = read(tmp_path / "again").models, read(tmp_path / "final").models
    assert [look.rounds for look in again.looks] == [0, 3, 4]
    assert final.looks == again.looks[-1:]
    assert final.replay is None
    for part in ("experts", "modality_value", "weights", "drawn", "left_out"):
        assert getattr(final, part) == getattr(again, part)


@pytest.mark.slow
def test_training_first_leaves_a_run_that_can_be_analyzed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    analyze("--cohort", "synthetic", "--num-clients", 3, "-c", settings(results="here"), "--patients", 6, "--every", 4)
    one = read(tmp_path / "here" / "analysis")
    assert [m.name for m in one.models] == ["remind", "softmoe"]
    analyze("here", "--patients", 6, "--every", 4, "--against", "none", "--out", "out")
    (again,) = read(tmp_path / "out").models
    assert again.replay.equal
    assert again.looks == one.models[0].looks
    assert again.modality_value == one.models[0].modality_value


@pytest.mark.slow
def test_two_runs_of_the_same_patients(folder, tmp_path):
    train(tmp_path / "erm", small_config(method__objective="erm"))
    analyze(folder, "--against", tmp_path / "erm", "--final", "--patients", 6, "--out", tmp_path / "out")
    assert [m.name for m in read(tmp_path / "out").models] == ["remind + groupdro", "remind + erm"]


def test_runs_of_other_patients_are_not_compared(folder, tmp_path):
    train(tmp_path / "other", small_config(seed=1, train__routing_rounds=0, train__warmup_rounds=1))
    with pytest.raises(UserError, match="seed: 0, there 1"):
        analyze(folder, "--against", tmp_path / "other", "--final", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to analyze"),
        (("RUN", "--cohort", "synthetic"), "leave out --cohort"),
        (("RUN", "-c", "seed=1"), "leave out --cohort, --num-clients and --run-config"),
        (("RUN", "--against", "softmoo"), "softmoo: has no config.json"),
        (("RUN", "--out", "FILE/out"), "cannot be made"),
        (("nowhere",), "nowhere: has no config.json"),
        (("--cohort", "nowhere"), "nowhere"),
        (("--cohort", "synthetic", "-c", "train.speed=1"), "train.speed: no such key"),
    ],
)
def test_mistakes_are_one_message(folder, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        analyze(*(folder if word == "RUN" else word for word in words))


def test_the_command_is_there_at_once():
    """`remind` imports every command at each start, so this one must not bring torch and matplotlib with it."""
    heavy = "('torch', 'matplotlib', 'scipy', 'flwr', 'numpy')"
    code = f"import sys, remind_studies.analysis.command; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
