"""An observer that records its events for tests."""

from collections.abc import Mapping

import torch

from remind_server.outputs.records import Observer, RoundRecord, RunResult, RunStart


class Recorder(Observer):
    """Observer that keeps what it is told."""

    def __init__(self) -> None:
        self.start: RunStart | None = None
        self.rounds: list[RoundRecord] = []
        self.models: list[dict[str, torch.Tensor]] = []
        self.result: RunResult | None = None

    def started(self, start: RunStart) -> None:
        self.start = start

    def round_done(self, record: RoundRecord, tensors: Mapping[str, torch.Tensor]) -> None:
        self.rounds.append(record)
        self.models.append(dict(tensors))

    def finished(self, result: RunResult) -> None:
        self.result = result
