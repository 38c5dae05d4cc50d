"""Operators have roles, and the log of their operations reveals changes."""

import json

import pytest
from typer.testing import CliRunner

from remind.errors import UserError
from remind_server.consortium import operations
from remind_server.consortium.command import consortium_command
from remind_server.consortium.folder import Folder
from remind_server.consortium.make import make
from remind_server.consortium.operations import note, read_operations, require_role, shown

OPERATORS = """
[[operators]]
user = "anna"
name = "Anna Meier"
role = "admin"

[[operators]]
user = "ben"
role = "runner"

[[operators]]
user = "cleo"
role = "viewer"
"""


@pytest.fixture
def folder(tmp_path):
    made = make(tmp_path / "heart", "heart", ["localhost"], 443, "", None, 100, 10)
    return Folder(made.root)


def name_operators(folder, text=OPERATORS):
    folder.settings_file.write_text(folder.settings_file.read_text() + text)
    return Folder(folder.root)


@pytest.mark.parametrize(
    ("user", "may", "may_not"),
    [
        ("anna", ["list", "run", "enrol", "revoke", "serve", "anything new"], []),
        (
            "ben",
            ["list", "check", "runs", "log", "run", "stop"],
            ["enrol", "revoke", "renew", "rollover", "serve", "kit"],
        ),
        ("cleo", ["list", "check", "runs", "log", "bundle"], ["run", "stop", "enrol", "anything new"]),
        ("mallory", [], ["list", "run", "enrol"]),
    ],
)
def test_a_role_covers_what_it_covers_and_no_more(folder, monkeypatch, user, may, may_not):
    folder = name_operators(folder)
    monkeypatch.setattr(operations, "user", lambda: user)
    for command in may:
        require_role(folder, command)
    for command in may_not:
        with pytest.raises(UserError, match=f"{command}: {user} "):
            require_role(folder, command)


def test_without_operators_all_may_do_all(folder, monkeypatch):
    monkeypatch.setattr(operations, "user", lambda: "mallory")
    require_role(folder, "revoke")


def test_under_sudo_it_is_who_called_it(monkeypatch):
    monkeypatch.setenv("SUDO_USER", "anna")
    assert operations.user() == "anna"
    monkeypatch.delenv("SUDO_USER")
    assert operations.user() != "anna"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[operators]]\nuser = "a"\nrole = "runner"\n', "no operator has the role 'admin'"),
        ('[[operators]]\nuser = "a"\nrole = "king"\n', "operators 1.role"),
        ('[[operators]]\nuser = "a"\nrole = "admin"\n' * 2, "appears twice"),
        ('[[operators]]\nrole = "admin"\n', "operators 1.user"),
    ],
)
def test_operators_that_make_no_sense_are_said(folder, text, problem):
    with pytest.raises(UserError, match=problem):
        _ = name_operators(folder, text).settings


def test_the_record_keeps_who_did_what_in_order(folder):
    note(folder, "enrol", site="bern")
    note(folder, "run", settings="train.lr=0.1")
    entries, problems = read_operations(folder)
    assert problems == []
    assert [(e["what"], e["sequence"]) for e in entries] == [("enrol", 0), ("run", 1)]
    assert {e["who"] for e in entries} == {operations.user()}
    assert "site bern" in shown(entries[0])
    assert folder.operations.stat().st_mode & 0o777 == 0o600


def test_an_operation_that_failed_is_recorded_as_failed(folder):
    done = CliRunner().invoke(consortium_command, ["rollover", str(folder.root), "finish"])
    assert "no rollover to finish" in str(done.exception)
    entries, _ = read_operations(folder)
    assert [(e["what"], "failed" in e) for e in entries[-2:]] == [("rollover", False), ("rollover", True)]
    assert "failed" in shown(entries[-1])
    assert "no rollover to finish" in shown(entries[-1])


def test_kits_of_all_hospitals_need_a_hospital(folder, tmp_path):
    done = CliRunner().invoke(consortium_command, ["kit", str(folder.root), "--all", "--out", str(tmp_path / "kits")])
    assert "no hospital is enrolled; give the names" in str(done.exception)


@pytest.mark.parametrize("change", ["a byte", "a line gone", "the tail cut"])
def test_what_was_changed_in_the_record_is_seen(folder, change):
    for site in ("bern", "chur", "genf"):
        note(folder, "revoke", site=site)
    lines = folder.operations.read_bytes().splitlines(keepends=True)
    if change == "a byte":
        lines[1] = lines[1].replace(b"chur", b"thun")
    elif change == "a line gone":
        del lines[1]
    else:
        lines[2] = lines[2][:-5]
    folder.operations.write_bytes(b"".join(lines))
    _, problems = read_operations(folder)
    assert problems
    if change == "the tail cut":
        with pytest.raises(UserError, match="last line is damaged"):
            note(folder, "enrol", site="bern")


def test_what_cannot_be_recorded_is_not_done(folder, monkeypatch):
    folder.operations.mkdir()
    with pytest.raises(UserError, match="nothing was done"):
        note(folder, "stop", run="5")


def test_commands_leave_their_line(folder, monkeypatch):
    from typer.testing import CliRunner

    from remind_server.consortium.command import consortium_command

    done = CliRunner().invoke(consortium_command, ["kit", str(folder.root), "bern", "--out", str(folder.root / "kits")])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(consortium_command, ["log", str(folder.root), "--json"])
    assert [json.loads(line)["site"] for line in done.output.splitlines()] == ["bern"]
