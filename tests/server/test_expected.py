"""Enrolled hospitals are expected: the minimum number for a run, and missing ones named in every record."""

import json

import pytest

from remind.errors import UserError
from remind_server.outputs.run_folder import ROUNDS, SUMMARY, RunFolder
from remind_server.rounds.enroller import Enroller
from remind_server.rounds.roster import Roster
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort, schema
from tests.builders.configs import settings
from tests.builders.grids import FakeGrid, Node, SiteGrid, enrolment
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"s1": [1, 1, 3] * 5, "s2": [3, 5, 7] * 5, "s3": [2, 6] * 6}


def sites(folder, config):
    return [site(name, cohort(mix, seed), config, folder) for seed, (name, mix) in enumerate(MIXES.items())]


@pytest.mark.parametrize(
    ("enrolled", "asked", "needed"),
    [(0, 0, 1), (1, 0, 1), (2, 0, 2), (3, 0, 2), (4, 0, 3), (9, 0, 5), (4, 1, 1), (2, 4, 4)],
)
def test_by_default_a_run_needs_more_than_half_of_the_enrolled(enrolled, asked, needed):
    roster = Roster(settings({"federation.min-sites": asked}), [f"h{i}" for i in range(enrolled)])
    assert roster.needed == needed
    assert len(roster.draw([m.name for m in roster.online(FakeGrid({}))], 0, {}).drawn) == 0


def test_hospitals_with_a_registered_name_are_expected_though_no_ledger_names_them():
    nodes = {n: Node(enrolment(f"h{n}", schema(), {1: 4}), name=f"h{n}") for n in range(10, 13)}
    roster = Roster(settings())
    Enroller(roster.config, roster).enrol_newcomers(FakeGrid(nodes))
    assert roster.expected == ("h10", "h11", "h12")
    assert roster.needed == 2


def test_a_majority_that_is_not_connected_ends_the_run_and_is_named(tmp_path):
    config = settings()
    with pytest.raises(UserError, match="h4: not connected"):
        FedRemind(config, enrolled=["s1", "s2", "s3", "h4", "h5", "h6"]).run(SiteGrid(sites(tmp_path, config)))


def test_a_majority_that_refuses_ends_the_run_and_is_named():
    nodes = {n: Node(enrolment(f"h{n}", schema(), {1: 4}, version="0"), name=f"h{n}") for n in (1, 2)}
    nodes[3] = Node(enrolment("h3", schema(), {1: 4}), name="h3")
    roster = Roster(settings(), ["h1", "h2", "h3", "away"])
    Enroller(roster.config, roster).enrol_newcomers(FakeGrid(nodes))
    with pytest.raises(UserError) as caught:
        roster.require_members()
    assert "federation.min-sites asks for 3 (more than half of 4 enrolled)" in str(caught.value)
    assert "away: never connected" in str(caught.value)
    assert "h1: version 0" in str(caught.value)


@pytest.mark.parametrize("enrolled", [("s1", "s2", "s3", "away"), ("s1", "s2", "s3"), ()])
def test_every_record_names_who_was_expected_and_why_they_are_missing(tmp_path, enrolled):
    config, recorder = settings(), Recorder()
    folder = RunFolder(tmp_path / "run")
    FedRemind(config, [recorder, folder], enrolled=enrolled).run(SiteGrid(sites(tmp_path, config)))
    away = {"away": "never connected"} if "away" in enrolled else {}
    lines = [json.loads(line) for line in (tmp_path / "run" / ROUNDS).open()]
    assert len(lines) == config.train.rounds
    for line in lines:
        assert line["expected"] == sorted(enrolled)
        assert (line["answered"], line["absent"], line["late"], line["refused"]) == (["s1", "s2", "s3"], away, [], {})
    summary = json.loads((tmp_path / "run" / SUMMARY).read_text())
    assert summary["status"] == ("incomplete" if away else "completed")
    assert (summary["expected"], summary["took_part"]) == (sorted(enrolled), ["s1", "s2", "s3"])
    assert summary["never_took_part"] == summary["absent"] == away


def test_who_is_late_is_told_from_who_is_away(tmp_path):
    config, recorder = settings({"federation.deadline": 60.0, "federation.min-sites": 1}), Recorder()

    def seconds(message):
        return float("inf") if (message.metadata.dst_node_id, message.metadata.message_type) == (3, "train") else 1.0

    FedRemind(config, [recorder], enrolled=["s1", "s2", "s3", "away"]).run(SiteGrid(sites(tmp_path, config), seconds))
    for record, why in zip(recorder.rounds, ["within 60 s", "within 11 s, nor the time before"], strict=True):
        assert record.late == ("s2",)
        assert record.absent == {"s2": f"no answer {why}", "away": "never connected"}
