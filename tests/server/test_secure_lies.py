"""One of four sites is told something else than the others: the sum of such a round is noise, and the run says so."""

import logging
from math import fsum

import numpy as np
import pytest
import torch
from flwr.app import Message

from remind.federation.blocks import SHARED, unpack
from remind.federation.flower import from_record, to_record
from remind.federation.messages import Examine, Task
from remind.federation.secure import (
    block_digests,
    examination_plan,
    groups_training,
    masses_of,
    task_plan,
)
from remind.secagg.limits import TOGETHER
from remind_client.rounds.secure import SecureAnswers
from remind_server.rounds.secure.aggregation import UNLIKE
from remind_server.rounds.secure.masked_replies import MaskedReplies
from remind_server.rounds.strategy import FedRemind
from remind_server.simulation.local_grid import FIRST_NODE_ID
from tests.builders.cohorts import NAMES, cohort
from tests.builders.grids import WireGrid
from tests.builders.observers import Recorder
from tests.builders.secure_runs import MIXES, SECURE, config
from tests.builders.sites import site

VICTIM = "s1"  # trains groups 1, 3 and 7, each with s3, s4 and others
GROUP = 1


def another_model(task, buffer, counts):
    """The last bit of the first number of the shared part."""
    start = 0
    for entry in task.index:
        if entry.block == SHARED:
            break
        start += entry.nbytes
    other = buffer.copy()
    other[start] ^= 1
    return task, other


def other_weight(task, buffer, counts):
    """Half of λ of one group, with all numbers that the site compares with it."""
    weights = {k: w / 2 if k == GROUP else w for k, w in task.weights.items()}
    patient = {k: w / 2 if k == GROUP else w for k, w in task.secure.patient.items()}
    secure = task.secure.model_copy(update={"patient": patient})
    told = task.model_copy(update={"weights": weights, "secure": secure})
    masses = masses_of(told, counts)
    of_block = {
        b: fsum(masses[k] for k in groups_training(b, masses, NAMES)) / secure.whole[b] if b in secure.whole else a
        for b, a in task.block_weights.items()
    }
    return told.model_copy(update={"block_weights": of_block}), buffer


def other_labels(task, buffer, counts):
    return task.model_copy(update={"labels": {GROUP: (9, 1)}}), buffer


def another_stage(task, buffer, counts):
    return task.model_copy(update={"stage_rounds": task.stage_rounds + 1}), buffer


def other_plain(task, buffer, counts):
    return task.model_copy(update={"secure": task.secure.model_copy(update={"plain": 0.5})}), buffer


def other_observers(task, buffer, counts):
    observers = task.secure.observers | {SHARED: task.secure.observers[SHARED][:3]}
    return task.model_copy(update={"secure": task.secure.model_copy(update={"observers": observers})}), buffer


LIES = {  # round, from 0 → what only the victim is told; rounds that are not named are honest
    1: another_model,
    2: other_weight,
    3: other_labels,
    4: another_stage,
    5: other_plain,
    6: other_observers,
}
ROUNDS = 8


class Liar(WireGrid):
    """A coordinator's connection on which some messages to one site are exchanged for others."""

    def __init__(self, sites):
        super().__init__(sites)
        self.counts = {one.name: one.engine.patients.counts for one in sites}
        self.sent = {}  # round → the model as the others got it
        self.kept = {}  # type → a message to the victim as an honest coordinator meant it, and its tensors

    def push_messages(self, messages):
        return super().push_messages([self._told(message) for message in messages])

    def _told(self, message):
        request, buffer = from_record(message.content)
        if isinstance(request, Task):
            self.sent.setdefault(request.round, {}).update(unpack(request.index, buffer.copy()))
            lie = LIES.get(request.round)
        else:
            lie = another_model if isinstance(request, Examine) else None
        if message.metadata.dst_node_id == FIRST_NODE_ID:
            self.kept[type(request)] = request, buffer
        if lie is None or message.metadata.dst_node_id != FIRST_NODE_ID:
            return message
        content = to_record(*lie(request, buffer, self.counts[VICTIM]))
        known = message.metadata
        return Message(content, known.dst_node_id, known.message_type, ttl=known.ttl, group_id=known.group_id)


class Heard:
    """What sites put under masks, and what the coordinator opened: by slot."""

    def __init__(self, patch):
        self.payloads, self.sums, self.withheld = {}, {}, {}
        masked, opened = SecureAnswers._masked, MaskedReplies.open

        def note_masked(answers, plan, payloads, *rest):
            own = {block: payload.copy() for block, payload in payloads.items()}
            self.payloads.setdefault(plan.slot, {})[answers._name] = own
            return masked(answers, plan, payloads, *rest)

        def note_opened(replies, *rest):
            slot, sums = replies.total.slot, opened(replies, *rest)
            self.sums[slot] = {block: payload.copy() for block, payload in sums.items()}
            self.withheld[slot] = dict(replies.withheld)
            return sums

        patch.setattr(SecureAnswers, "_masked", note_masked)
        patch.setattr(MaskedReplies, "open", note_opened)

    def words(self, slot, block, names):
        """The sum of what these sites put under masks, as words."""
        parts = [self.payloads[slot][name][block] for name in names if block in self.payloads[slot][name]]
        total = parts[0].copy()
        for part in parts[1:]:
            total.add(part)
        return words_of(total)

    def blocks(self, slot):
        """The blocks that the victim sent."""
        return sorted(self.payloads[slot][VICTIM])


class Lines(logging.Handler):
    """A log whose lines are kept."""

    def __init__(self, kept):
        super().__init__()
        self.kept = kept

    def emit(self, record):
        self.kept.append(record.getMessage())


def words_of(payload):
    return np.concatenate([payload.tensors.astype(np.uint64), payload.statistics])


def share_of_equal(one, other):
    return np.mean(one == other)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run: a lie in most rounds, and in the examination."""
    folder, text = tmp_path_factory.mktemp("lies"), []
    settings = config(**SECURE, **{"train.warmup-rounds": ROUNDS, "train.routing-rounds": 0})
    sites = [site(n, cohort(mix, seed), settings, folder) for seed, (n, mix) in enumerate(MIXES.items())]
    recorder, grid = Recorder(), Liar(sites)
    handler = Lines(text)
    logging.getLogger("flwr").addHandler(handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            heard = Heard(patch)
            FedRemind(settings, [recorder]).run(grid)
    finally:
        logging.getLogger("flwr").removeHandler(handler)
    return recorder, grid, heard, text


@pytest.mark.parametrize("round_", sorted({*range(ROUNDS)} - LIES.keys()))
def test_an_honest_round_opens_the_sum_to_the_word(run, round_):
    recorder, grid, heard, text = run
    for block in heard.blocks(round_):
        assert np.array_equal(words_of(heard.sums[round_][block]), heard.words(round_, block, MIXES))
    assert not heard.withheld[round_]
    assert set(recorder.rounds[round_].risks) == {1, 3, 7}
    assert not torch.equal(recorder.models[round_]["fusion.head.weight"], grid.sent[round_]["fusion.head.weight"])
    assert not any(f"round {round_ + 1}:" in line and "withheld" in line for line in text)


@pytest.mark.parametrize("round_", LIES, ids=[lie.__name__ for lie in LIES.values()])
def test_a_round_in_which_one_site_was_told_something_else_tells_nothing_and_changes_nothing(run, round_):
    recorder, grid, heard, text = run
    assert recorder.rounds[round_].answered == tuple(MIXES), "the site cannot know, so it answers"
    for block in heard.blocks(round_):
        if block in heard.sums[round_]:
            opened = words_of(heard.sums[round_][block])
            for names in (MIXES, [VICTIM], MIXES.keys() - {VICTIM}):
                assert share_of_equal(opened, heard.words(round_, block, names)) < 0.01, (block, names)
        else:
            assert "told different lists" in heard.withheld[round_][block]
        said = [line for line in text if line.startswith(f"round {round_ + 1}: {block} is withheld: ")]
        assert [UNLIKE in line or "told different lists" in line for line in said] == [True], text
    assert recorder.rounds[round_].risks == {}
    changed = [n for n, t in recorder.models[round_].items() if not torch.equal(t, grid.sent[round_].get(n, t))]
    assert changed == []


def test_an_examination_of_another_model_at_one_site_is_no_result(run):
    recorder, _, heard, text = run
    slot = max(heard.sums)
    assert heard.blocks(slot) == ["group:1", "group:3", "group:7"]
    for block in heard.blocks(slot):
        opened = words_of(heard.sums[slot][block])
        for names in (MIXES, [VICTIM], MIXES.keys() - {VICTIM}):
            assert share_of_equal(opened, heard.words(slot, block, names)) < 0.01, (block, names)
        assert f"examination: {block} is withheld: {UNLIKE}" in text
    assert recorder.result.test == {TOGETHER: {}}
    assert recorder.result.withheld == {TOGETHER: frozenset({1, 3, 5, 7})}


# Other fields of a message than those: any of them that is told one site alone leaves no mask that cancels

IN_A_TASK = {
    "round": {"round": 5},
    "stage": {"stage": 2},
    "round of the stage": {"stage_round": 3},
    "seed": {"seed": 123},
    "candidates": {"candidates": (1,)},
    "routed": {"routed": True},
    "given": {"given": (GROUP,)},
    "whole": {"secure": {"whole": {f"group:{GROUP}": 0.5}}},
}
IN_AN_EXAMINATION = {
    "round": {"round": 5},
    "routing": {"routing": True},
    "on_test": {"on_test": False},
    "temper": {"temper": True},
    "temperature": {"temperature": 1.5},
    "counts": {"counts": {GROUP: 1, 3: 1, 7: 1}},
    "experts": {"secure": {"experts": 77}},
}


def pairs(request, buffer):
    """What the masks between the victim and each other site depend on."""
    planned = task_plan if isinstance(request, Task) else examination_plan
    plan = planned(request, block_digests(request.index, buffer), "")
    return {other: plan.pair(other) for other in ("s3", "s4")}  # they have all groups of the victim


def with_changes(request, changes):
    secure = request.secure.model_copy(update=changes.get("secure", {}))
    return request.model_copy(update=changes | {"secure": secure})


@pytest.mark.parametrize(
    ("kind", "changes"),
    [*((Task, each) for each in IN_A_TASK.values()), *((Examine, each) for each in IN_AN_EXAMINATION.values())],
    ids=[*(f"task: {name}" for name in IN_A_TASK), *(f"examination: {name}" for name in IN_AN_EXAMINATION)],
)
def test_masks_depend_on_every_field_that_sites_must_have_received_alike(run, kind, changes):
    request, buffer = run[1].kept[kind]
    told = with_changes(request, changes)
    assert told != request
    before, after = pairs(request, buffer), pairs(told, buffer)
    assert all(before[other] != after[other] for other in before)


@pytest.mark.parametrize("kind", [Task, Examine])
def test_masks_depend_on_the_model_of_each_block(run, kind):
    request, buffer = run[1].kept[kind]
    before, start, seen = pairs(request, buffer), 0, set()
    for entry in request.index:
        other = buffer.copy()
        other[start] ^= 1
        start += entry.nbytes
        if entry.block == SHARED or entry.block in request.secure.observers:
            seen.add(entry.block)
            after = pairs(request, other)
            assert all(before[site] != after[site] for site in before), entry.name
    assert {SHARED, f"group:{GROUP}"} <= seen
