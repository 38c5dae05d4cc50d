"""A malformed or hostile reply changes nothing and is named (invariant 8)."""

import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict

from remind.config import Scalar
from remind.errors import UserError
from remind.federation.blocks import index_of, pack, unpack
from remind.federation.flower import from_record, to_record
from remind.federation.messages import Enrol, Refusal, Report
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.grids import KnownAnswers
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"honest-1": [1, 2, 3] * 5, "honest-2": [3, 5] * 6, "hostile": [1, 5, 7] * 5}
FOREIGN = 2  # a group that the hostile site does not have
RISK = "validation"  # on whom λ is steered: also what hostile evaluations could move


class Tampered(KnownAnswers):
    """What the hostile site sends is changed on its way, in one kind of message."""

    known: ClassVar[dict[str, RecordDict]] = {}

    def __init__(self, sites, kind, tamper):
        super().__init__(sites, self.known)
        self.kind, self.tamper = kind, tamper

    def _work(self, message):
        kind, node = message.metadata.message_type, message.metadata.dst_node_id
        content = super()._work(message).content
        return Message(self.tamper(content) if (kind, node) == (self.kind, 4) else content, reply_to=message)


def run(folder, tamper, kind="train", **changes):
    own: dict[str, Scalar] = {"train.routing-rounds": 0, "dro.risk": RISK, "federation.dtype": "float32"}
    config = settings(own | changes)
    sites = [site(name, cohort(mix, seed), config, folder) for seed, (name, mix) in enumerate(MIXES.items())]
    recorder = Recorder()
    FedRemind(config, [recorder]).run(Tampered(sites, kind, tamper))
    return recorder


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """The round as it is when the site says no."""
    return run(tmp_path_factory.mktemp("without"), lambda record: to_record(Refusal(reason="no")))


def content(change):
    """Change the JSON."""

    def tamper(record):
        said = json.loads(record.config_records["message"]["json"])
        change(said)
        return RecordDict({"message": ConfigRecord({"json": json.dumps(said)}), "buffer": record["buffer"]})

    return tamper


def tensors(change, dtype="float32"):
    """Change the tensors; the index goes along, so that the message is in order in itself."""

    def tamper(record):
        report, buffer = from_record(record)
        assert isinstance(report, Report)
        named = change(unpack(report.index, buffer)) or {}
        return to_record(report.model_copy(update={"index": index_of(named, dtype)}), pack(named, dtype))

    return tamper


def buffer(change):
    def tamper(record):
        flat = record.array_records["buffer"]["bytes"].numpy()
        return RecordDict({"message": record["message"], "buffer": ArrayRecord({"bytes": Array(change(flat))})})

    return tamper


def edit(name, value):
    return lambda named: named | {name: value(named.get(name))}


def spoil(path, value):
    def change(said):
        *way, last = path
        for step in way:
            said = said[step]
        said[last] = value(said[last]) if callable(value) else value

    return content(change)


THREE_CLASSES = {
    "count": 1,
    "loss_sum": 0.0,
    "log_loss_sum": 1.0,
    "log_loss_squares": 1.0,
    "brier_sum": 1.0,
    "brier_squares": 1.0,
    "bins": 2,
    "open_sum": 0.0,
    "confusion": [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
    "scores": [[0, 1, 5, 1], [1, 0, 5, 1], [2, 0, 5, 1]],
}
ONE = {
    "count": 1,
    "loss_sum": 9.0,
    "log_loss_sum": 9.0,
    "log_loss_squares": 81.0,
    "brier_sum": 1.0,
    "brier_squares": 1.0,
    "bins": 2,
    "open_sum": 0.0,
    "confusion": [[1, 0], [0, 0]],
    "scores": [[0, 0, 5, 1]],
}
EMPTY = ArrayRecord({"bytes": Array(np.empty(0, np.uint8))})
ONE_LOSS = {"count": 1, "loss_sum": 99.0}
HEAD, BIAS = "fusion.head.weight", "fusion.head.bias"
MANY = 10**30
CASES = {
    "wrong round": (spoil(["round"], 5), "answers round 5, not 0"),
    "wrong share": (spoil(["share"], lambda share: share / 2), "claims share"),
    "a share of all": (spoil(["share"], 1.0), "claims share"),
    "foreign group": (spoil(["train", str(FOREIGN)], ONE_LOSS), "not sent"),
    "no such group": (spoil(["train", str(2**50)], ONE_LOSS), "not sent"),
    "evaluates a foreign group": (spoil(["validation", str(FOREIGN)], ONE), "did not enrol"),
    "evaluates no such group": (spoil(["validation", str(2**50)], ONE), "did not enrol"),
    "other experts": (spoil(["validation", "5", "use_sum"], [0.1]), "not that of 4 experts"),
    "no experts": (spoil(["validation", "5", "use_sum"], []), "not that of 4 experts"),
    "fewer patients": (spoil(["train", "5", "count"], 1), "it enrolled"),
    "more patients": (spoil(["train", "5", "count"], 10**6), "it enrolled"),
    "countless patients": (
        spoil(["validation", "5"], ONE | {"count": MANY, "confusion": [[MANY, 0], [0, 0]]}),
        "count",
    ),
    "loss is NaN": (spoil(["train", "5", "loss_sum"], float("nan")), "loss_sum"),
    "loss is infinite": (spoil(["train", "5", "loss_sum"], float("inf")), "loss_sum"),
    "loss is negative": (spoil(["train", "5", "loss_sum"], -1.0), "loss_sum"),
    "other classes": (spoil(["validation", "5"], THREE_CLASSES), "not of 2 classes"),
    "confusion does not add up": (spoil(["validation", "5", "count"], 77), "confusion"),
    "another field": (spoil(["extra"], ["p1"]), "extra"),
    "missing tensor": (tensors(lambda t: {n: v for n, v in t.items() if n != BIAS}), "tensors missing"),
    "no tensors": (tensors(lambda t: {}), "tensors"),
    "unknown tensor": (tensors(edit("fusion.more", lambda _: torch.ones(2))), "not asked for"),
    "nonsense tensor": (spoil(["index", 0, "name"], "nonsense"), "not the name"),
    "encoder smuggled in": (tensors(edit("encoders.a.bias_lD", lambda _: torch.ones(3, 8))), "not asked for"),
    "foreign block": (tensors(edit(f"fusion.groups.{FOREIGN}.missing_D", lambda _: torch.ones(8))), "not asked for"),
    "wrong shape": (tensors(edit(HEAD, lambda t: t.t())), "has shape"),
    "wrong rank": (tensors(edit(BIAS, lambda t: t[None])), "has shape"),
    "NaN": (tensors(edit(BIAS, lambda t: t * float("nan"))), "not finite"),
    "inf": (tensors(edit(BIAS, lambda t: t / 0.0)), "not finite"),
    "huge": (tensors(edit(HEAD, lambda t: t + 1e4)), "max-update"),
    "huge beyond squares": (tensors(edit(HEAD, lambda t: t + 3e38)), "max-update"),
    "another type": (tensors(lambda t: t, dtype="float64"), "not float32"),
    "block of another name": (spoil(["index", 0, "block"], "group:1"), "claims block"),
    "negative shape": (spoil(["index", 0, "shape"], [-1, -4]), "shape"),
    "same tensor twice": (content(lambda said: said["index"].append(said["index"][-1])), "twice"),
    "buffer too short": (buffer(lambda flat: flat[:-1]), "ends within"),
    "buffer too long": (buffer(lambda flat: np.append(flat, np.uint8(0))), "does not name"),
    "buffer of floats": (buffer(lambda flat: flat.view(np.float32)), "not flat bytes"),
    "no buffer": (lambda record: RecordDict({"message": record["message"]}), "ends within"),
    "another kind": (lambda record: to_record(Enrol(version="1")), "expected Report, got Enrol"),
    "garbage": (lambda record: RecordDict({"message": ConfigRecord({"json": "{garbage"})}), "Invalid JSON"),
    "nothing": (lambda record: RecordDict(), "not one JSON text"),
    "an error": (lambda record: Error(2, "boom"), "error 2: boom"),
    "an error that moves the cursor": (lambda record: Error(2, "bo\x1b[2Jom\r"), "error 2: bo [2Jom "),
    "an endless error": (lambda record: Error(2, "x" * 10**7), "(10000000 characters)"),
    "an endless refusal": (spoil(["kind"], "refusal\x1b" * 2 * 10**6), "too large"),
    "many groups": (spoil(["train"], {str(k): ONE_LOSS for k in range(1, 5 * 10**5)}), "too large"),
    "an endless field": (spoil(["x\x1b" * 1000], 1), "x x x x"),
    "an endless tensor": (spoil(["index", 0, "name"], "fusion." + "x" * 1000), "at most 300 characters"),
}


@pytest.mark.parametrize("case", CASES)
def test_changes_nothing_and_is_named(case, without, tmp_path):
    tamper, words = CASES[case]
    found = run(tmp_path, tamper)
    (record,), (expected,) = found.rounds, without.rounds
    assert set(record.absent) == {"hostile"}
    assert words in record.absent["hostile"]
    assert record.absent["hostile"].isprintable()
    assert len(record.absent["hostile"]) < 2100
    assert record.answered == ("honest-1", "honest-2")
    assert record.risks == expected.risks
    assert record.weights_after == expected.weights_after
    assert record.validation.keys() == expected.validation.keys()
    assert record.bytes_up == expected.bytes_up
    for name, tensor in without.models[0].items():
        assert torch.equal(found.models[0][name], tensor), name


def test_an_honest_reply_does_change_the_model(without, tmp_path):
    found = run(tmp_path, lambda record: record)
    assert found.rounds[0].absent == {}
    assert not torch.equal(found.models[0][HEAD], without.models[0][HEAD])
    assert found.rounds[0].weights_after != without.rounds[0].weights_after


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (spoil(["round"], 0), "answers round 0, not 1"),
        (spoil(["test", str(FOREIGN)], ONE), "did not enrol"),
        (spoil(["validation", str(FOREIGN)], ONE), "did not enrol"),
        (spoil(["test", "5"], THREE_CLASSES), "not of 2 classes"),
        (lambda record: to_record(Refusal(reason="busy")), "refused: busy"),
    ],
)
def test_examinations_that_are_not_in_order_are_named_and_left_out(tamper, words, tmp_path):
    def with_a_buffer(record):
        return tamper(RecordDict({"message": record["message"], "buffer": EMPTY}))

    result = run(tmp_path, with_a_buffer, kind="evaluate").result
    assert set(result.absent) == {"hostile"}
    assert words in result.absent["hostile"]
    assert set(result.test) == set(result.validation) == {"honest-1", "honest-2"}


def test_too_few_valid_replies_end_the_run_with_the_reasons(tmp_path):
    with pytest.raises(UserError, match=r"2 valid replies.*asks for 3\n  - hostile: refused: no"):
        run(tmp_path, lambda record: to_record(Refusal(reason="no")), **{"federation.min-sites": 3})
