"""TensorBoard and MLflow hold the numbers of the results folder."""

import json

import pytest

from remind.errors import UserError
from remind_server.outputs.run_folder import RunFolder
from remind_server.run_observers import run_observers
from remind_server.simulation.simulate import simulate
from remind_server.sinks.mlflow import MlflowSink, metric_name
from tests.builders.configs import settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run with both sinks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("results") / "run"
        config = settings({"synthetic.patients": 200, "results": str(folder), "sinks": "tensorboard, mlflow"})
        simulate(config, 2, [RunFolder(folder), *run_observers(config, folder, print)])
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    """Name → step → number, from the result files."""
    found = {}
    for line in (folder / "groups.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name in ("lambda", "risk"):
            found.setdefault(f"{name}/{row['group']}", {})[row["round"]] = row[name]
        found.setdefault(f"validation/loss/{row['group']}", {})[row["round"]] = row["validation"]["loss"]
    for row in json.loads((folder / "final.json").read_text()):
        if row["site"] == "all":
            found[f"test/auroc/{row['group']}"] = {2: row["auroc"]}
        elif row["group"] == "all":
            found[f"test_at_site/accuracy/{row['site']}"] = {2: row["accuracy"]}
    defined = {name: {step: v for step, v in steps.items() if v is not None} for name, steps in found.items()}
    return {name: steps for name, steps in defined.items() if steps}


def test_tensorboard(folder, expected):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    for name, steps in expected.items():
        assert {e.step: e.value for e in events.Scalars(name)} == pytest.approx(steps, rel=1e-6), name


def test_mlflow(folder, expected):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder.parent}/mlflow.db")
    [experiment] = [e for e in client.search_experiments() if e.name != "Default"]
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["synthetic.patients"] == "200"
    for name, steps in expected.items():
        history = client.get_metric_history(run.info.run_id, metric_name(name))
        assert {m.step: m.value for m in history} == pytest.approx(steps), name


def test_a_tracking_server_that_is_away_does_not_end_a_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = tmp_path / "run"
    config = settings({"synthetic.patients": 100, "results": str(folder)})
    simulate(config, 2, [RunFolder(folder), MlflowSink(folder)])
    assert (folder / "summary.json").exists()
    assert "mlflow" in caplog.text


def test_an_unknown_sink_is_one_message():
    with pytest.raises(UserError, match="there is no wandb; there are mlflow, tensorboard"):
        settings({"sinks": "tensorboard,wandb"})
