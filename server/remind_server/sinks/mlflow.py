"""MLflow sink: logs to the server in ``MLFLOW_TRACKING_URI``, by default to ``mlflow.db`` beside the results."""

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from remind.data.cohort.schema import CohortSchema
from remind_server.outputs.records import Observer, RoundRecord, RunResult, RunStart
from remind_server.sinks.scalars import final_scalars, round_scalars

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # set before the import: no telemetry
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

log = logging.getLogger(__name__)
MOST = 500  # metrics in one request; the server takes 1000 things at most
_FORBIDDEN = re.compile(r"[^\w\-. :/]")


class MlflowSink(Observer):
    """Logs settings, every round's numbers and test scores. An unreachable tracking server never ends a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.parent / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri=where)
        self._run_id = ""
        self._schema: CohortSchema | None = None
        self._round = 0

    def started(self, start: RunStart) -> None:
        """Begin a run in the experiment of the cohort's name."""
        self._schema = start.schema
        self._try(lambda: self._begin(start))

    def remember(self) -> dict[str, Any]:
        """Return the run's id at the tracking server."""
        return {"run": self._run_id}

    def resumed(self, start: RunStart, round_: int, memory: Mapping[str, Any]) -> None:
        """Continue with the run at the tracking server."""
        self._schema, self._run_id, self._round = start.schema, memory.get("run", ""), round_
        if not self._run_id:
            self.started(start)
            return
        self._try(lambda: self._client.update_run(self._run_id, status="RUNNING"))

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Log the round's numbers."""
        assert self._schema is not None
        self._round = record.round
        self._log(round_scalars(record, self._schema))

    def finished(self, result: RunResult) -> None:
        """Log the test scores and end the run."""
        self._log(final_scalars(result))
        self._end("FINISHED")

    def failed(self, reason: str) -> None:
        """End the run as failed."""
        self._end("FAILED")

    def _begin(self, start: RunStart) -> None:
        name = start.schema.name
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        self._run_id = self._client.create_run(experiment, run_name=self.folder.name).info.run_id
        settings = [Param(key, str(value)) for key, value in start.config.flat().items()]
        self._client.log_batch(self._run_id, params=settings)

    def _log(self, scalars: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(metric_name(name), value, now, self._round) for name, value in scalars.items()]
        for first in range(0, len(metrics), MOST):
            self._try(partial(self._client.log_batch, self._run_id, metrics=metrics[first : first + MOST]))

    def _end(self, status: str) -> None:
        self._try(lambda: self._client.set_terminated(self._run_id, status))

    def _try(self, call: Callable[[], object]) -> None:
        if not self._run_id and self._round:
            return  # starting failed and was logged
        try:
            call()
        except Exception as error:  # the tracking client may raise anything
            log.warning("mlflow: %s", str(error).splitlines()[0] if str(error) else type(error).__name__)


def metric_name(name: str) -> str:
    """Return a name that MLflow accepts: plus signs of a combination become spaces."""
    return _FORBIDDEN.sub("_", name.replace("+", " "))
