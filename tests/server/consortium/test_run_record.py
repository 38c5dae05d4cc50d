"""A consortium's record of each run, and its form in `list`, `runs` and `run --wait`."""

import json

import pytest

from remind_server.consortium.flower import CONSORTIUM, Control, Run
from remind_server.consortium.folder import Folder
from remind_server.consortium.record_keeper import RecordKeeper, of_this_run
from remind_server.consortium.run_record import last_of_sites, read_record, record_path, status_text
from remind_server.consortium.runs import wait
from tests.builders.reports import START, record, result


def changed(what, **fields):
    return type(what)(**{name: getattr(what, name) for name in what.__dataclass_fields__} | fields)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "heart")


def follow(folder, run=5, absent=None, expected=("x", "y", "z"), late=("z",), to_the_end=True):
    folder.root.mkdir(exist_ok=True)
    keeper = RecordKeeper(record_path(folder, run), run, folder.root / "results")
    keeper.begun(START.config)
    keeper.started(changed(START, refused={"w": "version 0"}, expected=expected))
    absent = {"z": "no answer within 600 s"} if absent is None else absent
    for number in (1, 2):
        keeper.round_done(record(number, absent=absent, late=late, expected=expected, refused={"w": "version 0"}), {})
    if to_the_end:
        keeper.finished(changed(result(), absent={}))
    return read_record(folder, run)


def test_the_record_says_who_was_expected_and_what_each_did(folder):
    kept = follow(folder)
    assert kept.expected == ("x", "y", "z")
    did = {name: (site.how, site.why) for name, site in kept.sites.items()}
    away = {"z": ("late", "no answer within 600 s"), "w": ("refused", "version 0")}
    assert did == {"x": ("answered", ""), "y": ("answered", "")} | away
    assert (kept.status, kept.round) == ("incomplete", 2)
    assert kept.reason == "w: version 0; z: no answer within 600 s"
    assert 0 < kept.scores["auroc"] < 1
    assert record_path(folder, 5).stat().st_mode & 0o777 == 0o600


def test_a_run_in_which_all_took_part_is_completed(folder):
    keeper = RecordKeeper(record_path(folder, 1), 1, folder.root)
    folder.root.mkdir()
    keeper.started(changed(START, refused={}))
    keeper.round_done(record(1, absent={}), {})
    keeper.finished(changed(result(), absent={}))
    assert read_record(folder, 1).status == "completed"


def test_what_a_site_did_last_is_what_counts(folder):
    follow(folder, 5)
    follow(folder, 6, absent={}, late=())
    run, last = last_of_sites(folder)["z"]
    assert (run, last.how) == ("5", "late"), "run 6 did not ask it"
    assert last_of_sites(folder)["x"][0] == "6"


class Link(Control):
    """A SuperLink on which a run goes through these statuses."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)

    def run(self, run_id):
        return Run(run_id, self.statuses.pop(0), "", "2026-01-01")


def test_waiting_shows_rounds_score_and_results(folder, monkeypatch):
    monkeypatch.setattr("remind_server.consortium.runs.LOOK", 0.0)
    said, kept = [], follow(folder)
    wait(Link("running", "running", "finished:completed"), 5, said.append, lambda: kept)
    text = "\n".join(said)
    assert "round 2 of 2: 2 of 4 hospitals; without w: version 0; z: no answer within 600 s" in text
    assert "finished:completed, incomplete: without w: version 0; z: no answer within 600 s" in text
    assert "AUROC 0." in text
    assert f"results: {folder.root / 'results'}" in text


def test_a_run_without_a_record_is_told_as_flower_tells_it(folder):
    run = Run(1, "finished:completed", "", "2026-01-01")
    assert status_text(run, read_record(folder, 1)) == "finished:completed"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"run": 1}'])
def test_a_damaged_record_ends_no_command(folder, damage):
    folder.runs.mkdir(parents=True)
    record_path(folder, 1).write_text(damage)
    assert read_record(folder, 1) is None
    assert last_of_sites(folder) == {}


def test_a_server_app_finds_the_ledger_of_its_consortium(folder, monkeypatch):
    monkeypatch.delenv(CONSORTIUM, raising=False)
    assert of_this_run(5, folder.root) == ([], [])
    folder.root.mkdir()
    site = {
        "name": "bern",
        "location": "",
        "public_key": "k",
        "fingerprint": "f",
        "nonce": "n",
        "requested": "2026-01-01T00:00:00Z",
        "enrolled": "2026-01-01T00:00:00Z",
    }
    gone = site | {"name": "gone", "fingerprint": "g", "revoked": "2026-01-02T00:00:00Z"}
    folder.ledger.write_text(json.dumps({"version": 1, "sites": [site, gone]}))
    monkeypatch.setenv(CONSORTIUM, str(folder.root))
    (keeper,), enrolled = of_this_run(5, folder.root / "out")
    assert enrolled == ["bern"]
    assert isinstance(keeper, RecordKeeper)
    assert keeper.path == record_path(folder, 5)
