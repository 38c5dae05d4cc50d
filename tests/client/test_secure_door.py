"""What the door of a hospital lets out under secure aggregation: masked blocks that were asked for, keys and shares."""

import json

import numpy as np
import pytest

from remind.federation.flower import to_record
from remind.federation.messages import Refusal
from remind.federation.secure_messages import Dealt, MaskedAnswer, Prepare, Secure, Unmasked
from remind.secagg.slot_messages import MaskedHeader, OpenedShares
from tests.builders.doors import BUFFER, POLICY, Recorder, ask, enrolment, task_and_report
from tests.builders.site_files import write_site

RUN = {"federation.secure-aggregation": True}
SECURE = Secure(slot=0, observers={"group:3": ("a", "b", "north")}, patient={3: 0.025}, whole={"group:3": 1.0})


def masked(block="group:3", lengths=(2, 3)):
    beside = MaskedHeader(slot=0, lengths={block: lengths}, commitments={block: "ab" * 32}, boxes={"a": "00"})
    return MaskedAnswer(round=2, seconds=1.0, beside=beside)


@pytest.fixture
def site(tmp_path):
    return write_site(tmp_path / "site", POLICY)


@pytest.fixture
def enrolled(site):
    ask(site, Recorder(enrolment()), **RUN)
    return site


def task():
    return task_and_report()[0].model_copy(update={"secure": SECURE})


def test_masked_blocks_leave_and_are_logged_by_name_and_size(enrolled):
    words = np.arange(2 * 4 + 3 * 8, dtype=np.uint8)
    answer, buffer = ask(enrolled, Recorder(to_record(masked(), words)), to_record(task(), BUFFER), "train", **RUN)
    assert answer == masked()
    assert np.array_equal(buffer, words)
    last = json.loads(sorted(enrolled.audit_log.folder.glob("*.jsonl"))[-1].read_text().splitlines()[-1])
    text = json.dumps(last)
    assert "group:3 (masked)" in text
    assert '"bytes": 32' in text


@pytest.mark.parametrize(
    ("answer", "size"),
    [
        (masked("shared"), 32),
        (masked(), 31),
        (task_and_report()[1], 20),
    ],
    ids=["another block", "another size", "not masked"],
)
def test_what_is_not_masked_as_asked_does_not_leave(answer, size, enrolled):
    record = to_record(answer, np.zeros(size, np.uint8))
    said, buffer = ask(enrolled, Recorder(record), to_record(task(), BUFFER), "train", **RUN)
    assert isinstance(said, Refusal)
    assert buffer.size == 0


def test_a_task_that_asks_for_a_clear_answer_never_reaches_the_app(enrolled):
    recorder = Recorder(to_record(task_and_report()[1], BUFFER))
    said, _ = ask(enrolled, recorder, to_record(task_and_report()[0], BUFFER), "train", **RUN)
    assert "differ in whether answers are masked" in said.reason
    assert not recorder.loaded


def test_shares_leave_only_as_answers_to_their_questions(enrolled):
    opened = Unmasked(opened=OpenedShares(slot=0, seeds={}, secrets={}))
    said, _ = ask(enrolled, Recorder(to_record(opened)), to_record(Prepare(slots=3)), **RUN)
    assert isinstance(said, Refusal)
    said, _ = ask(enrolled, Recorder(to_record(Dealt(boxes={}))), to_record(Prepare(slots=3)), **RUN)
    assert isinstance(said, Refusal)


def test_keys_are_asked_for_only_after_the_enrolment(site):
    recorder = Recorder(enrolment())
    said, _ = ask(site, recorder, to_record(Prepare(slots=3)), **RUN)
    assert "enrol" in said.reason
    assert not recorder.loaded
