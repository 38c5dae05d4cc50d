"""Fuzzed JSON and bytes of a reply either count or are named; no exception is raised (invariant 8)."""

import json

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from remind.federation.aggregation import BlockAverage
from remind.federation.flower import read_as, to_record
from remind.federation.messages import Task
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind.outcomes.classes import Classes
from remind_server.rounds.checks import Limits
from remind_server.rounds.collect import RoundReplies
from remind_server.rounds.exchange import Answer
from remind_server.rounds.member import Member
from remind_server.rounds.state import State
from remind_server.rounds.tasks import sites_of, train_tasks
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.sites import site

NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 10**400, 1e308, -1e308, 1e-320, float("nan"), float("inf")]),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.just([[[]]]),
    st.lists(st.integers(-2, 3), max_size=3),
)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A site's assignment, and its honest report."""
    config = settings()
    one = site("s", cohort([1, 3] * 8), config, tmp_path_factory.mktemp("site"))
    counts = one.engine.patients.counts
    member = Member(2, "s", counts, frozenset(counts))
    weights = methods_of(config).weighing.initial(sites_of([member]))
    state = State(0, GlobalModel.build(config, one.cohort.schema, counts), weights)
    assignment = train_tasks(config, one.cohort.schema, state, [member], [member])[2]
    report, buffer = one.train(*read_as(assignment.record(), Task))
    return config, assignment, to_record(report, buffer)


def leaves(node, path=()):
    """Paths of every place in a JSON tree that can be changed."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


def taken(config, assignment, record) -> RoundReplies:
    replies = RoundReplies(Limits(config, Classes(classes=("no", "yes"))), {}, BlockAverage())
    replies.take("s", assignment, Answer(2, record))
    replies.settle()
    return replies


def named_or_counted(replies: RoundReplies) -> None:
    assert (replies.answered, set(replies.absent)) in ((["s"], set()), ([], {"s"}))
    if replies.absent:
        assert replies.absent["s"]
        assert (replies.train, replies.validation, replies.bytes_up) == ({}, {}, 0)
        unchanged = {"fusion.head.bias": torch.zeros(2)}
        assert replies.average.apply(unchanged) == unchanged


def test_the_honest_one_counts(honest):
    assert taken(*honest).answered == ["s"]


@given(data=st.data())
def test_any_place_of_the_json_changed(honest, data):
    config, assignment, record = honest
    said = json.loads(record["message"]["json"])
    *way, last = data.draw(st.sampled_from(list(leaves(said))))
    node = said
    for step in way:
        node = node[step]
    if data.draw(st.integers(0, 5)) == 0:
        del node[last]
    else:
        node[last] = data.draw(NASTY)
    changed = RecordDict({"message": ConfigRecord({"json": json.dumps(said)}), "buffer": record["buffer"]})
    named_or_counted(taken(config, assignment, changed))


@given(start=st.integers(0, 4000), junk=st.binary(min_size=1, max_size=16))
def test_any_bytes_of_the_buffer_changed(honest, start, junk):
    config, assignment, record = honest
    flat = record.array_records["buffer"]["bytes"].numpy().copy()
    start %= len(flat) - len(junk)
    flat[start : start + len(junk)] = np.frombuffer(junk, np.uint8)
    changed = RecordDict({"message": record["message"], "buffer": ArrayRecord({"bytes": Array(flat)})})
    named_or_counted(taken(config, assignment, changed))
