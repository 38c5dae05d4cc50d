"""The coordinator knows the number of experts in a reply for every method, and names a reply with another number."""

import json

import pytest
import torch
from flwr.app import ConfigRecord, RecordDict

from remind.federation.aggregation import BlockAverage
from remind.federation.flower import read_as, to_record
from remind.federation.messages import Task
from remind.fusion.base import registry
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind.outcomes.classes import Classes
from remind_server.rounds.checks import Limits, experts_of
from remind_server.rounds.collect import RoundReplies
from remind_server.rounds.exchange import Answer
from remind_server.rounds.member import Member
from remind_server.rounds.state import State
from remind_server.rounds.tasks import sites_of, train_tasks
from tests.builders.cohorts import NAMES, cohort
from tests.builders.configs import BASE, settings
from tests.builders.sites import site

METHODS = [method.name for method in registry.methods()]
EXPERTS = int(BASE["model.experts"])


def asked_and_answered(config, folder):
    """A site's assignment in the first round, and what it answers."""
    one = site("s", cohort([1, 3, 7] * 8), config, folder)
    counts = one.engine.patients.counts
    member = Member(2, "s", counts, frozenset(counts))
    weights = methods_of(config).weighing.initial(sites_of([member]))
    state = State(0, GlobalModel.build(config, one.cohort.schema, counts), weights)
    assignment = train_tasks(config, one.cohort.schema, state, [member], [member])[2]
    report, buffer = one.train(*read_as(assignment.record(), Task))
    return assignment, to_record(report, buffer)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("stage", [1, 2])
def test_what_is_expected_is_what_sites_say(name, stage, tmp_path):
    config = settings({"method.fusion": name, "train.warmup-rounds": 2 - stage})
    before = torch.random.get_rng_state()
    expected = experts_of(config, NAMES, stage == 2)
    assert torch.equal(torch.random.get_rng_state(), before), "what the run draws does not depend on the question"
    _, record = asked_and_answered(config, tmp_path)
    said = json.loads(record["message"]["json"])["validation"]
    assert said
    assert {len(evaluation["use_sum"]) for evaluation in said.values()} == {expected}


def test_methods_with_and_without_experts_are_among_them():
    found = {name: experts_of(settings({"method.fusion": name}), NAMES, True) for name in METHODS}
    assert found["remind"] == found["softmoe"] == EXPERTS
    assert found["simmlm"] == len(NAMES)
    assert 0 in found.values()


@pytest.mark.parametrize("said", [[], [0.5], [0.1] * (EXPERTS + 1)])
def test_another_number_of_experts_is_named_and_does_not_count(said, tmp_path):
    config = settings()
    assignment, record = asked_and_answered(config, tmp_path)
    changed = json.loads(record["message"]["json"])
    next(iter(changed["validation"].values()))["use_sum"] = said
    tampered = RecordDict({"message": ConfigRecord({"json": json.dumps(changed)}), "buffer": record["buffer"]})
    for reply, counts in ((record, True), (tampered, False)):
        replies = RoundReplies(
            Limits(config, Classes(classes=("no", "yes")), experts_of(config, NAMES, False)), {}, BlockAverage()
        )
        replies.take("s", assignment, Answer(2, reply))
        replies.settle()
        assert (replies.answered == ["s"]) == counts
        assert counts or f"not that of {EXPERTS} experts" in replies.absent["s"]
