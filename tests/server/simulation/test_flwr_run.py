"""`flwr run` as the user types it, up to the point where it would be submitted."""

import importlib
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from flwr.cli.constant import LOCAL_SUPERLINK_HTTP_API_PORT
from typer.testing import CliRunner

from remind_server.simulation import _flwr_boot, flwr_run
from remind_server.simulation.app_config import app_toml

USUAL = LOCAL_SUPERLINK_HTTP_API_PORT
STRANGER = (
    '[project]\nname = "x"\nversion = "1"\n[tool.flwr.app.components]\nserverapp = "s:app"\nclientapp = "c:app"\n'
)


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    from remind_server.simulation import flwr_superlink

    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    monkeypatch.setattr(flwr_superlink, "running_superlinks", list)  # whatever runs on this machine
    monkeypatch.setattr(flwr_superlink, "answers", lambda port: False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def apps(tmp_path):
    for name, text in {"ours": app_toml(), "stranger": STRANGER}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").write_text(text)


class Flower:
    """A stand-in for the module flwr.cli.app, whose `run` keeps what it is given."""

    def __init__(self, extend=flwr_run.install):
        self.given = None
        SUPERLINK.ends("finished:completed")
        self.app = typer.Typer()
        self.app.command()(self._run())
        self.app.command()(lambda: None)
        extend(self)

    def _run(self):
        def run(
            app: Annotated[str, typer.Argument()] = ".",
            superlink: Annotated[str | None, typer.Argument()] = None,
            run_config_overrides: Annotated[list[str] | None, typer.Option("--run-config", "-c")] = None,
            federation_config_overrides: Annotated[list[str] | None, typer.Option("--federation-config")] = None,
            stream: Annotated[bool, typer.Option("--stream")] = False,
            output_format: Annotated[Literal["default", "json"], typer.Option("--format")] = "default",
        ) -> None:
            """Run."""
            self.given = types.SimpleNamespace(**locals())
            client = init_http_client_from_connection()
            run_id = client.StartRun("request").run_id
            if stream:
                start_stream(run_id, client)

        return run

    def __call__(self, *arguments):
        return CliRunner().invoke(self.app, ["run", *arguments], env={"TERM": "dumb", "COLUMNS": "200"})


class SuperLink:
    """A stand-in for Flower's client: a run whose log has two lines, and how it stands when asked."""

    def ends(self, *statuses, details="", interrupted=False):
        self.statuses, self.details, self.interrupted = list(statuses), details, interrupted

    def StartRun(self, request):
        return types.SimpleNamespace(run_id=42)

    def StreamLogs(self, request):
        yield "one"
        if self.interrupted:
            raise KeyboardInterrupt
        yield "two"

    def ListRuns(self, request):
        text = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        status, _, sub = text.partition(":")
        found = types.SimpleNamespace(status=status, sub_status=sub, details=self.details)
        return types.SimpleNamespace(run_dict={request.run_id: types.SimpleNamespace(status=found)})


SUPERLINK = SuperLink()


def init_http_client_from_connection():
    """What Flower's `run` calls by this name to reach the SuperLink."""
    client = types.SimpleNamespace()
    for name in ("StartRun", "StreamLogs", "ListRuns"):
        setattr(client, name, getattr(SUPERLINK, name))
    return client


def start_stream(run_id, client):
    """As Flower's: Ctrl-C ends it like the end of the log."""
    try:
        for line in client.StreamLogs(run_id):
            print(line)
    except KeyboardInterrupt:
        print("Exiting logstream")


@pytest.fixture
def flower(apps):
    return Flower()


def test_num_clients_for_any_app(flower):
    assert flower("stranger", "--num-clients", "4").exit_code == 0
    assert flower.given.federation_config_overrides == ["client-resources-num-cpus=1 num-supernodes=4"]
    assert flower.given.run_config_overrides is None


def test_a_strangers_app_is_untouched_without_our_options(flower):
    result = flower("stranger", "-c", "a=1", "-c", "nonsense", "--federation-config", "b")
    assert flower.given.run_config_overrides == ["a=1", "nonsense"]
    assert flower.given.federation_config_overrides == ["b"]
    assert result.output == ""


@pytest.mark.parametrize("number", ["0", "-1"])
def test_too_few_clients(flower, number):
    result = flower("ours", "--num-clients", number)
    assert result.exit_code == 2
    assert f"Invalid value for '--num-clients': {number} is not in the range x>=1" in result.output
    assert flower.given is None


def test_our_app_is_told_where_and_how_to_watch(flower, tmp_path):
    result = flower("ours", "--num-clients", "1", "-c", "seed=3")
    estimate, line = result.stderr.strip().splitlines()
    assert estimate.startswith("estimate: ")
    assert line.startswith("watch: flwr log 42 --stream   results: " + str(tmp_path / "results"))
    assert line.endswith("-synthetic-seed3")


def test_streaming_says_only_where(flower):
    result = flower("ours", "--stream")
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["estimate", "results"]
    assert result.exit_code == 0


@pytest.mark.parametrize("form", [[], ["--format", "json"]])
def test_a_streamed_run_that_fails_fails_the_command(flower, form, capfd):
    SUPERLINK.ends("running", "finished:failed", details="1 site takes part, min-sites asks for 2")
    result = flower("ours", "--stream", *form)
    assert result.exit_code == 1
    said = result.stderr + capfd.readouterr().err  # with --format json Flower takes the streams over
    assert "error: run 42 failed: 1 site takes part, min-sites asks for 2" in said


def test_a_streamed_run_that_is_stopped_or_dies_fails_the_command(flower):
    SUPERLINK.ends("finished:stopped")
    result = flower("ours", "--stream")
    assert (result.exit_code, "run 42 was stopped" in result.stderr) == (1, True)
    SUPERLINK.ends("finished:failed")
    assert "flwr log 42 --show" in flower("ours", "--stream").stderr


def test_ctrl_c_says_that_the_run_goes_on_and_how_to_stop_it(flower):
    SUPERLINK.ends("running", interrupted=True)
    result = flower("ours", "--stream")
    assert result.exit_code == 130
    assert "run 42 continues" in result.stderr
    assert "flwr stop 42" in result.stderr
    assert "flwr log 42 --stream" in result.stderr


def test_a_streamed_run_without_some_of_its_sites_is_no_plain_success(flower, monkeypatch):
    def run_in(folder):
        (Path(folder) / "summary.json").write_text(json.dumps({"never_took_part": {"b": "disk full"}}))
        return SuperLink.ListRuns(SUPERLINK, types.SimpleNamespace(run_id=42))

    monkeypatch.setattr(SUPERLINK, "ListRuns", lambda request: run_in(Path("out")), raising=False)
    Path("out").mkdir()
    result = flower("ours", "--stream", "-c", 'results="out"')
    assert (result.exit_code, "site b never took part: disk full" in result.stderr) == (3, True)


def test_a_run_that_is_not_submitted_leaves_no_folder(flower, monkeypatch):
    def no(request):
        raise RuntimeError("refused")

    monkeypatch.setattr(SUPERLINK, "StartRun", no, raising=False)
    assert flower("ours").exit_code == 1
    assert list(Path("results").iterdir()) == []


def test_a_run_in_another_environment_is_watched_where_it_is(flower, monkeypatch):
    from remind_server.simulation import flwr_superlink

    there = flwr_superlink.Superlink(1, "39091", "elsewhere", {})
    monkeypatch.setattr(flwr_superlink, "running_superlinks", lambda: [there])
    monkeypatch.setattr(flwr_superlink, "answers", lambda port: port == USUAL)
    monkeypatch.setattr(flwr_superlink, "free_port", lambda: "50000")
    result = flower("ours")
    assert "was started in another environment" in result.stderr
    assert "watch: FLWR_LOCAL_SUPERLINK_HTTP_API_PORT=50000 flwr log 42 --stream" in result.stderr
    local: Any = importlib.import_module("flwr.cli.local_superlink")

    assert local.LOCAL_SUPERLINK_HTTP_API_PORT == USUAL, "only for this command"


def test_without_our_options_our_app_still_works_on_one_cpu(flower):
    assert flower("ours").exit_code == 0
    assert flower.given.federation_config_overrides == ["client-resources-num-cpus=1"]


def test_paths_of_another_superlink_are_left_as_typed(flower, tmp_path):
    (tmp_path / "flwr").mkdir()
    (tmp_path / "flwr" / "config.toml").write_text('[superlink.far]\naddress = "203.0.113.1:9093"\n')
    result = flower("ours", "far", "--cohort", "there")
    assert flower.given.run_config_overrides == ['data.cohort="there"']
    assert flower.given.federation_config_overrides is None
    assert result.stderr.strip() == "watch: flwr log 42 far --stream"


def test_another_superlink_needs_no_option_to_be_watched(flower, tmp_path):
    (tmp_path / "flwr").mkdir()
    (tmp_path / "flwr" / "config.toml").write_text('[superlink]\ndefault = "far"\n[superlink.far]\naddress = "x:1"\n')
    assert flower("ours").stderr.strip() == "watch: flwr log 42 --stream"
    assert flower.given.run_config_overrides is None


def test_options_of_a_connection_are_not_overruled_by_our_defaults(flower, tmp_path):
    (tmp_path / "flwr").mkdir()
    (tmp_path / "flwr" / "config.toml").write_text(
        '[superlink]\ndefault = "local"\n[superlink.local]\naddress = ":local:"\noptions.num-supernodes = 9\n'
    )
    flower("ours")
    assert flower.given.federation_config_overrides is None
    flower("ours", "--num-clients", "2")
    assert "num-supernodes=2" in str(flower.given.federation_config_overrides)


def test_what_is_beyond_the_machine_asks_for_yes(flower, monkeypatch):
    monkeypatch.setattr("remind_server.simulation.estimate.available_memory", lambda: 1e9)
    refused = flower("ours", "--num-clients", "3")
    assert (refused.exit_code, flower.given) == (1, None)
    assert "more than there is" in refused.output
    assert "--yes" in refused.output
    assert not Path("results").exists()
    assert flower("ours", "--num-clients", "3", "--yes").exit_code == 0


def test_mistakes_are_one_message(flower):
    for arguments, message in {
        ("ours", "-c", "train.speed=1"): "train.speed: no such key",
        ("ours", "-c", "train.lr='fast'"): "train.lr: ",
        ("stranger", "--cohort", "x"): "--cohort is for the federated-remind app",
    }.items():
        result = flower(*arguments)
        assert (result.exit_code, flower.given) == (1, None)
        assert message in result.output
        assert "Traceback" not in result.output


def test_mistakes_in_json(flower, capfd):
    assert flower("ours", "-c", "train.speed=1", "--format", "json").stderr == ""
    assert json.loads(capfd.readouterr().out)["success"] is False
    assert flower.given is None


def test_a_changed_flower_keeps_its_command_line(monkeypatch, capsys):
    def run(folder: str = ".") -> None:
        print("ran", folder)

    cli: Any = types.SimpleNamespace(app=typer.Typer())
    cli.app.command()(run)
    monkeypatch.setattr(sys, "argv", ["flwr", "run", "here"])
    _flwr_boot.extend(cli)
    assert capsys.readouterr().err == ""
    assert "ran here" in CliRunner().invoke(cli.app, ["--folder", "here"]).output
    monkeypatch.setattr(sys, "argv", ["flwr", "run", "--num-clients=3"])
    _flwr_boot.extend(cli)
    said = capsys.readouterr().err
    assert "no longer takes app" in said
    assert "num-supernodes=N" in said
    assert said.count("\n") == 1


def test_the_hook_extends_the_real_command_line():
    code = (
        "import remind_server.simulation._flwr_boot;"
        "heavy = {'typing', 'typer', 'flwr', 'remind', 'torch'} & set(sys.modules);"
        "import flwr.cli.app as cli; print(sorted(heavy));"
        "run = [c.callback for c in cli.app.registered_commands if c.callback.__name__ == 'run'][0];"
        "import inspect; print(list(inspect.signature(run).parameters)[-3:], run.__module__, 'torch' in sys.modules)"
    )
    # -S: without site-packages' own .pth files, so that what is measured is what this module imports
    paths = [str(Path(_flwr_boot.__file__).parents[2]), *sys.path]
    code = f"import sys; sys.path[:0] = {paths!r}; " + code
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['num_clients', 'cohort', 'yes'] flwr.cli.run.run False"]


def test_a_folder_that_was_announced_and_not_made_is_said(flower, monkeypatch):
    """As if the SuperLink was not up in Flower's time."""

    def late():
        raise typer.Exit(1)

    monkeypatch.setattr(sys.modules[__name__], "init_http_client_from_connection", late)
    result = flower("ours", "--stream")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "no run was started, so that this folder was not made"
    assert not list(Path("results").glob("*"))
