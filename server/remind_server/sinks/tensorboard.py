"""TensorBoard: event files in the run's folder; ``tensorboard --logdir results`` shows all runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from remind.data.cohort.schema import CohortSchema
from remind_server.outputs.records import Observer, RoundRecord, RunResult, RunStart
from remind_server.sinks.scalars import final_scalars, round_scalars

FOLDER = "tensorboard"


class TensorBoardSink(Observer):
    """Writes every number of a round as a scalar of that step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self._writer: SummaryWriter | None = None
        self._schema: CohortSchema | None = None
        self._round = 0

    def started(self, start: RunStart) -> None:
        """Open the event file; the run's settings go in as text."""
        self._schema = start.schema
        self._writer = SummaryWriter(str(self.folder))
        table = "\n".join(f"    {key} = {value!r}" for key, value in start.config.flat().items())
        self._writer.add_text("config", table)

    def resumed(self, start: RunStart, round_: int, memory: Mapping[str, Any]) -> None:
        """Open another event file, which replaces what the first says of later rounds."""
        self._schema, self._round = start.schema, round_
        self._writer = SummaryWriter(str(self.folder), purge_step=round_ + 1)

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Write the round's numbers."""
        assert self._schema is not None
        self._round = record.round
        self._add(round_scalars(record, self._schema))

    def finished(self, result: RunResult) -> None:
        """Write the test scores, and close."""
        self._add(final_scalars(result))
        self.failed("")

    def failed(self, reason: str) -> None:
        """Close."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, scalars: Mapping[str, float]) -> None:
        assert self._writer is not None
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, self._round)
        self._writer.flush()
