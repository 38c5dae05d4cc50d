"""Records of a run's gaps: late, disconnected and failed sites, groups without an update, repeated rounds."""

import json
import math
from typing import ClassVar

import pytest
from flwr.app import Error, Message, RecordDict

from remind.errors import UserError
from remind_server.outputs.gaps import summary_warnings
from remind_server.outputs.run_folder import ROUNDS, SUMMARY, RunFolder
from remind_server.rounds.exchange import GRACE
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.grids import KnownAnswers
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"s1": [1, 1, 3] * 5, "s2": [3, 5, 7] * 5, "s3": [2, 6] * 6}
NEVER = object()  # it does not answer
NODES = {"s1": 2, "s2": 3, "s3": 4}
ROUNDS_4 = {"train.warmup-rounds": 2, "train.routing-rounds": 2, "federation.deadline": 100.0}


class Failing(KnownAnswers):
    """Sites that do in a training round what `script` says: round (from 1) → site → `NEVER`, an error, or nothing."""

    known: ClassVar[dict[str, RecordDict]] = {}

    def __init__(self, sites, script):
        super().__init__(sites, self.known, self.seconds)
        self.script, self.seen = script, []

    def of(self, message):
        if message.metadata.message_type != "train":
            return None
        name = next(n for n, node in NODES.items() if node == message.metadata.dst_node_id)
        return self.script.get(int(message.metadata.group_id) + 1, {}).get(name)

    def seconds(self, message):
        return math.inf if self.of(message) is NEVER else 1.0

    def _work(self, message):
        self.seen.append((message.metadata.message_type, message.metadata.group_id, message.metadata.dst_node_id))
        if isinstance(found := self.of(message), Error):
            return Message(found, reply_to=message)
        return super()._work(message)


def run(folder, script, grid_of=Failing, **changes):
    config = settings(ROUNDS_4 | changes)
    sites = [site(name, cohort(mix, seed), config, folder / "sites") for seed, (name, mix) in enumerate(MIXES.items())]
    recorder, grid = Recorder(), grid_of(sites, script)
    FedRemind(config, [RunFolder(folder / "run"), recorder]).run(grid)
    return recorder, grid, folder / "run"


def test_a_silent_site_costs_one_deadline_until_it_shows_up(tmp_path):
    never = {round_: {"s1": NEVER} for round_ in (1, 2, 3)}
    recorder, grid, _ = run(tmp_path, never)
    assert [r.how.get("s1") for r in recorder.rounds] == ["late", "late", "late", None]
    assert recorder.rounds[0].absent["s1"] == "no answer within 100 s"
    assert recorder.rounds[1].absent["s1"] == "no answer within 11 s, nor the time before"
    assert recorder.rounds[3].answered == ("s1", "s2", "s3"), "it is asked in every round, and counts when it answers"
    spent = grid.clock.now()
    assert 100 < spent < 100 + 2 * (GRACE + 10) + 60


def test_each_kind_of_absence_has_its_word_and_frozen_groups_are_named(tmp_path):
    script = {
        1: {"s3": Error(5, "node")},
        2: {"s3": Error(3, "Message Unavailable - TTL")},
        3: {"s3": Error(2, "/data/ward-7: KeyError")},
    }
    recorder, _, folder = run(tmp_path, script)
    assert [r.how.get("s3") for r in recorder.rounds] == ["gone", "late", "failed", None]
    assert not any("TTL" in why for r in recorder.rounds for why in r.absent.values())
    assert [r.frozen for r in recorder.rounds] == [(2, 6), (2, 6), (2, 6), ()]
    lines = [json.loads(line) for line in (folder / ROUNDS).open()]
    assert [line["how"] for line in lines] == [{"s3": "gone"}, {"s3": "late"}, {"s3": "failed"}, {}]
    assert lines[0]["frozen"] == ["b", "b+c"]
    summary = json.loads((folder / SUMMARY).read_text())
    assert summary["missed_how"] == {"s3": {"failed": 1, "gone": 1, "late": 1}}
    assert summary["status"] == "completed"
    assert summary["never_trained"] == []


def test_a_run_whose_group_was_never_trained_is_no_plain_success(tmp_path):
    script = {r: {"s3": Error(5, "node")} for r in (1, 2, 3, 4)}
    _, _, folder = run(tmp_path, script)
    summary = json.loads((folder / SUMMARY).read_text())
    assert summary["status"] == "incomplete"
    assert summary["never_trained"] == ["b", "b+c"]
    assert set(summary["absent"]) == set(summary["never_took_part"]) == {"s3"}
    assert any(w.startswith("groups b, b+c: never trained, as no hospital") for w in summary_warnings(summary))


class Recovering(Failing):
    """What went wrong does not go wrong when a round is done again."""

    def _work(self, message):
        answer = super()._work(message)
        self.script.get(
            int(message.metadata.group_id) + 1 if message.metadata.message_type == "train" else 0, {}
        ).clear()
        return answer


def test_a_round_of_too_few_is_done_again_and_the_run_is_what_it_would_have_been(tmp_path):
    enough = {"federation.min-sites": 3}
    plain, _, _ = run(tmp_path / "plain", {}, **enough)
    again, grid, _ = run(tmp_path / "again", {2: {"s1": Error(5, "node")}}, Recovering, **enough)
    assert [r.answered for r in again.rounds] == [("s1", "s2", "s3")] * 4
    asked = [node for kind, round_, node in grid.seen if (kind, round_) == ("train", "1")]
    assert sorted(asked) == [2, 2, 3, 3, 4, 4]
    for a, b in zip(plain.models, again.models, strict=True):
        assert all((a[n] == b[n]).all() for n in a)


@pytest.mark.parametrize(("error", "times"), [(Error(5, "node"), 3), (Error(2, "it cannot"), 1)])
def test_a_shortage_that_stays_ends_the_run_and_one_that_waiting_does_not_mend_at_once(error, times, tmp_path):
    config = settings(ROUNDS_4 | {"federation.min-sites": 3})
    sites = [site(n, cohort(mix, seed), config, tmp_path) for seed, (n, mix) in enumerate(MIXES.items())]
    grid = Failing(sites, {1: {"s3": error}})
    with pytest.raises(UserError, match=r"2 valid replies, federation.min-sites asks for 3"):
        FedRemind(config).run(grid)
    assert sum(kind == "train" and node == 4 for kind, _, node in grid.seen) == times
