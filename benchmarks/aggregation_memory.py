"""Peak memory of averaging the answers of a round ÷ the size of one model: ours, and Flower's FedAvg, in one run.

    python benchmarks/aggregation_memory.py                # 20 sites, a model of 200 MB

Each candidate is a process of its own that has the global model, reads the answers from a file as a server gets them,
and averages them. Counted is what its memory grows by from then on, at its peak: answers, sums, and the new model.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from remind.config import Config
from remind.federation.aggregation import BlockAverage
from remind.federation.blocks import index_of, pack
from remind.federation.flower import to_record
from remind.federation.message_statistics import LossSum
from remind.federation.messages import Report, Task
from remind.outcomes.classes import Classes
from remind_server.flower_internals import set_identity
from remind_server.rounds.checks import Limits
from remind_server.rounds.collect import RoundReplies
from remind_server.rounds.exchange import Answer
from remind_server.rounds.tasks import Assignment

TENSORS = 50
SENT = "answer.npy"  # as it is in a message
CANDIDATES = ("ours", "flower")


def model(megabytes: int) -> dict[str, torch.Tensor]:
    """A model of equal tensors."""
    side = megabytes * 10**6 // 4 // TENSORS
    generator = torch.Generator().manual_seed(0)
    return {f"fusion.part.{i}": torch.randn(side, generator=generator) for i in range(TENSORS)}


def ours(sent: dict[str, torch.Tensor], sites: int, file: Path) -> dict[str, torch.Tensor]:
    """Check and average the answers as the coordinator does."""
    index = index_of(sent, "float32")
    task = Task(
        round=0,
        stage=1,
        stage_round=0,
        stage_rounds=1,
        seed=0,
        weights={1: 1.0},
        counts={1: 100 * sites},
        block_weights={"shared": 1 / sites},
        index=index,
    )
    assignment = Assignment(task, sent, 1 / sites, {1: 100}, frozenset({1}), "float32")
    report = Report(
        round=0, share=1 / sites, train={1: LossSum(count=100, loss_sum=50.0)}, validation={}, seconds=1, index=index
    )
    replies = RoundReplies(Limits(Config(), Classes(classes=("a", "b"))), {}, BlockAverage())
    array = Array(np.empty(0, np.uint8))
    for i in range(sites):
        record = to_record(report)
        data = (file.parent / SENT).read_bytes()
        record["buffer"] = ArrayRecord({"bytes": replace(array, shape=(file.stat().st_size,), data=data)})
        del data
        replies.take(f"site {i}", assignment, Answer(i, record))
        del record
    replies.settle()
    assert len(replies.answered) == sites, replies.absent
    return replies.average.apply(sent)


def flower(sent: dict[str, torch.Tensor], sites: int, file: Path) -> dict[str, torch.Tensor]:
    """Average the answers as Flower's strategy does: it is given all of a round."""
    shapes = [(name, tensor.shape) for name, tensor in sorted(sent.items())]

    def answer(site: int) -> Message:
        raw, arrays, start = np.fromfile(file, np.float32), {}, 0
        for name, shape in shapes:
            arrays[name] = Array(raw[start : start + shape.numel()].reshape(shape))
            start += shape.numel()
        content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 100})})
        return Message(content, site + 2, "train")

    set_identity(run_id=1, node_id=1)  # a message names its run
    found, _ = FedAvg(arrayrecord_key="arrays").aggregate_train(1, [answer(i) for i in range(sites)])
    assert found is not None
    return {name: torch.from_numpy(array.numpy().copy()) for name, array in found.items()}


def peak(candidate: str, megabytes: int, sites: int, file: Path) -> float:
    """The growth of this process's memory, in units of the model."""
    sent = model(megabytes)
    size = sum(tensor.nbytes for tensor in sent.values())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    averaged = (ours if candidate == "ours" else flower)(sent, sites, file)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert all(torch.isfinite(tensor).all() for tensor in averaged.values())
    return (after - before) * 1024 / size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--one", choices=CANDIDATES, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(peak(given.one, given.megabytes, given.sites, given.file))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answer"
        answer = pack({name: t + 1e-3 for name, t in model(given.megabytes).items()}, "float32")
        answer.tofile(file)
        np.save(file.parent / SENT, answer)
        for candidate in CANDIDATES:
            words = ["--one", candidate, "--file", str(file)]
            words += ["--sites", str(given.sites), "--megabytes", str(given.megabytes)]
            done = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True)
            models = float(done.stdout.split()[-1])
            print(f"{candidate}: {models:.2f} models of {given.megabytes} MB, {given.sites} sites", flush=True)


if __name__ == "__main__":
    main()
