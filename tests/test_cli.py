"""Conventions that all commands keep."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from remind.cli import whole_app
from remind.cli_options import one_cohort
from remind.errors import UserError
from remind.privacy.threshold import MIN_COUNT
from remind.version import VERSION
from remind_client.command import app as site_app


def commands_of(app: typer.Typer, name: str) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}

    def walk(path: str, command: click.Command) -> None:
        found[path] = command
        for child, inner in getattr(command, "commands", {}).items():
            walk(f"{path} {child}", inner)

    walk(name, typer.main.get_command(app))
    return found


APP = whole_app()
COMMANDS = commands_of(APP, "remind") | commands_of(site_app, "remind-site")


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help_by_a_letter_and_describes_its_arguments(path):
    program, *words = path.split()
    done = CliRunner().invoke(APP if program == "remind" else site_app, [*words, "-h"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "Usage:" in done.output
    for parameter in COMMANDS[path].params:
        assert getattr(parameter, "help", None), f"{path}: {parameter.name} is not described"


def test_the_minimum_count_is_one_default_everywhere():
    """10 for real patients: as the default itself, or, where synthetic patients have none, in the help text."""
    found = {path: p for path, c in COMMANDS.items() for p in c.params if "--min-count" in p.opts}
    assert {"remind analyze", "remind dashboard", "remind data check", "remind data describe", "remind export"} <= set(
        found
    )
    for path, parameter in found.items():
        said = str(getattr(parameter, "help", ""))
        assert parameter.default == MIN_COUNT or f"efault: {MIN_COUNT}" in said, path


def test_the_readme_says_how_large_the_installation_is_and_how_to_get_a_small_one():
    text = " ".join((Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").split())
    assert re.search(r"takes \d+ GB", text)
    assert "PyTorch's CPU build" in text


@pytest.mark.parametrize(("app", "name"), [(APP, "remind"), (site_app, "remind-site")])
def test_version_and_completion(app, name):
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.output.strip()) == (0, f"{name} {VERSION}")
    assert any("--install-completion" in p.opts for p in typer.main.get_command(app).params)


def test_a_misspelt_command_is_answered_with_the_near_one():
    for words, meant in {
        ("simulte",): "simulate",
        ("data", "chek"): "check",
        ("bench", "--seedss", "3"): "--seeds",
    }.items():
        done = CliRunner().invoke(APP, list(words), env={"COLUMNS": "200"})
        assert done.exit_code == 2
        assert meant in done.output.replace(words[-1], "").replace("--seedss", "")


def test_every_command_on_a_cohort_takes_it_both_ways():
    takes = {
        path: {p.name for p in command.params}
        for path, command in COMMANDS.items()
        if any("--cohort" in p.opts for p in command.params)
    }
    assert {"remind data check", "remind data describe", "remind simulate", "remind bench"} <= takes.keys()
    for path, names in takes.items():
        assert "cohort" in names or path == "remind analyze", path
    assert one_cohort("a", None) == one_cohort(None, "a") == one_cohort("a", "a") == "a"
    with pytest.raises(UserError, match="give one cohort"):
        one_cohort("a", "b")


def test_a_cohort_is_checked_as_argument_and_as_option_alike(tmp_path):
    runner = CliRunner()
    assert runner.invoke(APP, ["data", "synth", str(tmp_path / "c"), "--patients", "60"]).exit_code == 0
    one = runner.invoke(APP, ["data", "check", str(tmp_path / "c")])
    other = runner.invoke(APP, ["data", "check", "--cohort", str(tmp_path / "c")])
    assert one.exit_code == other.exit_code == 0
    assert one.output == other.output
    assert isinstance(runner.invoke(APP, ["data", "check"]).exception, UserError)


def test_analyze_takes_a_cohort_in_the_place_of_a_run(tmp_path):
    from remind_studies.analysis.request import _is_cohort

    (tmp_path / "cohort.toml").write_text("")
    assert _is_cohort(tmp_path)
    assert _is_cohort(tmp_path / "cohort.toml")
    (tmp_path / "config.json").write_text("{}")
    assert not _is_cohort(tmp_path), "a run"


def test_quiet_prints_the_results_folder_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = "train.warmup-rounds=1 train.routing-rounds=0 train.local-steps=1 synthetic.patients=100 model.width=8"
    done = CliRunner().invoke(APP, ["simulate", "--num-clients", "2", "--quiet", "-c", tiny])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("results: ")
    assert done.stdout.count("\n") == 1


def test_the_program_ends_a_mistake_with_one_line():
    code = "import sys; sys.argv = ['remind', 'simulate', '-c', 'train.lrr=1']; from remind.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 1
    assert "did you mean 'train.lr'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("train.rich-modalities=99", "train.rich-modalities: Input should be less than or equal to 62"),
        ('method.rule="nonsense"', "rule: there is no 'nonsense'"),
        ('method.rule="pooled" method.aggregator="median"', "method.aggregator: median does not go with"),
        ('federation.secure-aggregation=true method.aggregator="median"', "only their sum can be read"),
        ('train.select="overall" federation.secure-aggregation=true', "set it to 'last'"),
        ('method.rule="feddg_ga"', "weighs by risk itself, and so does the objective groupdro"),
    ],
)
def test_config_refuses_what_a_run_refuses(settings, said):
    done = CliRunner().invoke(whole_app(), ["config", "-c", settings])
    assert done.exit_code != 0
    assert said in str(done.exception)


@pytest.mark.parametrize(
    ("settings", "hospitals", "said"),
    [
        (
            'method.aggregator="krum(liars = 1, keep = 1)"',
            "2",
            "and this run has 2: give --hospitals",
        ),
        ("federation.secure-aggregation=true", "2", "a sum is of 3 hospitals or more, and this run has 2"),
        ('method.rule="pooled"', "2", "pooled needs all patients at one site, and there are 2"),
    ],
)
def test_config_refuses_too_few_hospitals(settings, hospitals, said):
    done = CliRunner().invoke(whole_app(), ["config", "-c", settings, "--hospitals", hospitals])
    assert done.exit_code != 0
    assert said in str(done.exception)


def test_config_names_settings_that_are_not_used():
    done = CliRunner().invoke(whole_app(), ["config", "-c", 'method.rule="scaffold" train.lr=0.01'])
    assert done.exit_code == 0
    assert "# note: train.lr = 0.01 is not used: the option of scaffold, lr = 0.1, replaces it" in done.stdout
    assert "# note: train.optimizer = 'adamw' is not used: local steps of scaffold are plain SGD" in done.stdout
    done = CliRunner().invoke(
        whole_app(), ["config", "-c", 'method.rule="scaffold(lr = 0)" train.optimizer="sgd" train.lr=0.01']
    )
    assert "note:" not in done.stdout
