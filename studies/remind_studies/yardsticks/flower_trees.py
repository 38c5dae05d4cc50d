"""The one file of the yardsticks that knows Flower: its strategies for XGBoost, over the grid of this process.

`FedXgbBagging`: every hospital adds a tree to the model of the round before, and the coordinator keeps all of them.
`FedXgbCyclic`: one hospital after the other adds a tree. Trees are bytes of XGBoost's JSON.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedXgbBagging, FedXgbCyclic
from typing_extensions import override

from remind_server.simulation.local_grid import LocalGrid

Step = Callable[[int, bytes], bytes]  # (hospital, model) → its new tree, or with cyclic training the whole model
Way = Literal["bagging", "cyclic"]
WEIGHT = "num-examples"  # a key that Flower wants in every reply


class _Bagging(FedXgbBagging):
    """Replies in the order of the hospitals, so that a seed gives one model."""

    @override
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        return super().aggregate_train(server_round, sorted(replies, key=lambda reply: reply.metadata.src_node_id))


def grow(step: Step, hospitals: int, rounds: int, way: Way) -> bytes:
    """Return the model after so many rounds of Flower's strategy; empty bytes stand for the model of no tree.

    Parameters
    ----------
    step
        What a hospital does with a model.
    """
    failed: list[Exception] = []
    grid = LocalGrid(_client(step, failed), hospitals, {}, run_id=1)
    with _quiet():
        strategy = _strategy(way, grid)
        result = strategy.start(grid, _record(b""), num_rounds=rounds)
    if failed:  # Flower continues without who failed
        raise failed[0]
    return _bytes(result.arrays)


def _strategy(way: Way, grid: LocalGrid) -> FedXgbBagging | FedXgbCyclic:
    if way == "bagging":
        return _Bagging(fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1)
    strategy = FedXgbCyclic(fraction_evaluate=0.0, min_available_nodes=1)
    strategy.min_train_nodes = 1  # the constructor says 2, and waits for a second hospital for ever
    strategy.registered_nodes = _places(grid.get_node_ids())  # else their turns are drawn
    return strategy


def _client(step: Step, failed: list[Exception]) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        hospital, model = int(context.node_config["partition-id"]), _bytes(message.content["arrays"])
        try:
            model = step(hospital, model)
        except Exception as error:
            failed.append(error)
            raise
        content = RecordDict({"arrays": _record(model), "metrics": MetricRecord({WEIGHT: 1})})
        return Message(content, reply_to=message)

    return app


def _record(model: bytes) -> ArrayRecord:
    return ArrayRecord([np.frombuffer(model, dtype=np.uint8)])


def _bytes(arrays: object) -> bytes:
    assert isinstance(arrays, ArrayRecord)
    return arrays["0"].numpy().tobytes()


def _places(nodes: Iterable[int]) -> dict[int, int]:
    return {node: place for place, node in enumerate(sorted(nodes), start=1)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Flower from telling each of some hundred rounds."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.ERROR)  # that nobody evaluates is on purpose
    try:
        yield
    finally:
        logger.setLevel(before)
