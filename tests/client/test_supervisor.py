"""Supervised child processes, and the health page."""

import asyncio
import json
import os
import signal
import sys

import pytest

from remind.errors import UserError
from remind.processes.child import Child, Patience, to_log
from remind_client.supernode.note import MARK
from remind_client.supervisor import watchdog
from remind_client.supervisor.flower import LATELY, Connection, commands, environment
from remind_client.supervisor.run import Running, say, state_lock
from tests.builders.site_files import write_site


async def until(condition, limit=60.0):
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.01)


def python(code: str) -> Child:
    quick = Patience(first=0.01, longest=0.02, grace=0.3)
    return Child("child", [sys.executable, "-u", "-c", code], dict(os.environ), say, to_log, patience=quick)


def test_what_the_supernode_says():
    heard = Connection()

    def after(*lines: str) -> tuple[bool, bool]:
        for line in lines:
            heard.hear(line)
        return heard.registered, heard.at_hand

    assert after("\x1b[92mINFO \x1b[0m:      Starting Flower SuperNode") == (False, False)
    assert after("INFO :      SuperNode ID: 5") == (True, False)
    assert after("INFO :      Receiving: train message (ID: 1)", "INFO :      Received successfully") == (True, True)
    assert after("INFO :      Sent successfully") == (True, False)
    assert heard.messages == 1
    after("Exit Code: 305 [code: 2004] Failed to activate SuperNode")
    assert "not enrolled" in heard.refused


class At:
    """A moment that a test moves on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def told(heard, what, **more):
    heard.hear(MARK + json.dumps({"what": what, **more}))


def test_ready_is_what_the_coordinator_really_took():
    at = At()
    heard = Connection(now=at)
    heard.hear("INFO :      SuperNode ID: 5")
    assert not heard.in_touch(), "registered, and nothing more"
    told(heard, "beat", ok=True)
    told(heard, "poll", ok=True)
    assert heard.in_touch()
    told(heard, "poll", ok=False, why="HTTPStatusError: 500")
    assert not heard.in_touch()
    assert heard.trouble == "HTTPStatusError: 500"
    told(heard, "poll", ok=True)
    assert heard.in_touch()
    assert heard.trouble == ""
    at.now += LATELY + 1
    assert not heard.in_touch(), "a heartbeat that stopped is none"
    told(heard, "beat", ok=True)
    heard.hear("INFO :      Receiving: train message (ID: 1)")
    assert heard.in_touch(), "at work it asks for no further message"
    told(heard, "done", answered=False, why="the run is over")
    assert not heard.at_hand
    assert heard.shown() == {"answered": False, "why": "the run is over", "ago": 0.0}
    assert heard.silent(10.0) is False
    at.now += 11
    assert heard.silent(10.0)


def test_notes_and_routine_are_not_for_the_log_and_words_are():
    heard = Connection()
    for line in (
        MARK + '{"what": "beat", "ok": true}',
        "\x1b[92mINFO \x1b[0m:      ",
        "INFO:     Started server process [9]",
    ):
        assert heard.hear(line)
    for line in (
        "INFO :      SuperNode ID: 5",
        "ERROR :     Failed to send message",
        "WARNING: x",
        "INFO :      Receiving: a",
    ):
        assert not heard.hear(line)


def test_the_watchdog_starts_again_what_says_nothing_and_what_answers_nothing(tmp_path, monkeypatch):
    """A SuperNode that is stopped by a signal, and a worker: both run, and neither does anything."""
    site = write_site(tmp_path)
    site.state_folder.mkdir()
    for name, seconds in (("LOOK", 0.02), ("SILENCE", 0.3), ("MUTE", 0.3)):
        monkeypatch.setattr(watchdog, name, seconds)
    answers = [{"busy_seconds": None}]
    monkeypatch.setattr(watchdog, "ask_status", lambda path: answers[0])
    waiting = "import time; time.sleep(60)"

    async def scene():
        heard = Connection()
        supernode, superexec, worker = python(waiting), python(waiting), python(waiting)
        running = Running(site, heard, supernode=supernode, superexec=superexec, worker=worker)
        keeping = [asyncio.create_task(child.keep()) for child in running.children]
        await until(lambda: all(child.pid for child in running.children))
        first, worked = supernode.pid, worker.pid
        watching = asyncio.create_task(watchdog.Watchdog(running).watch())
        os.kill(supernode.pid, signal.SIGSTOP)
        told(heard, "beat", ok=True)
        await until(lambda: supernode.ends == 1 and supernode.pid not in (None, first))
        await until(lambda: superexec.ends == 1, 30)
        assert worker.ends == 0, "it had nothing to do with it"
        answers[0] = None
        await until(lambda: worker.ends == 1 and worker.pid not in (None, worked))
        watching.cancel()
        await asyncio.gather(*(child.stop(0.1) for child in running.children))
        await asyncio.gather(*keeping)

    asyncio.run(scene())


def test_two_sites_do_not_share_a_state_folder(tmp_path):
    site = write_site(tmp_path)
    site.state_folder.mkdir()
    with state_lock(site), pytest.raises(UserError, match="running on this state folder"), state_lock(site):
        pass
    with state_lock(site):
        pass


def test_commands_hold_no_secret_and_the_launchers_come_first(tmp_path):
    site = write_site(tmp_path)
    site.state_folder.mkdir()
    (tmp_path / "ca.crt").write_text("x")
    lines = commands(site, site.kit())
    secret = (site.state_folder / "superexec.secret").read_text()
    assert len(secret) == 64
    assert all(secret not in word for line in lines.values() for word in line)
    assert (site.state_folder / "superexec.secret").stat().st_mode & 0o777 == 0o600
    assert {"--isolation", "process", "--auth-supernode-private-key"} <= set(lines["supernode"])
    assert not any("insecure" in word for word in lines["supernode"])
    surroundings = environment(site, tmp_path / "site.toml")
    assert surroundings["PATH"].split(os.pathsep)[0] == str(site.state_folder / "launchers")
    assert surroundings["FLWR_TELEMETRY_ENABLED"] == "0"
    assert surroundings["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("finishes", [True, False])
def test_the_message_at_hand_is_waited_for_but_not_for_ever(tmp_path, finishes):
    site = write_site(tmp_path).model_copy(update={"drain_seconds": 600.0 if finishes else 0.3})

    async def scene():
        connection = Connection(registered=True, at_hand=True)
        sleeping = python("import time; time.sleep(60)")
        running = Running(site, connection, supernode=sleeping, superexec=python(""), worker=None)
        keeping = asyncio.create_task(sleeping.keep())
        await until(lambda: sleeping.pid is not None)
        if finishes:
            asyncio.get_running_loop().call_later(0.2, connection.hear, "INFO : Sent successfully")
        async with asyncio.timeout(60):
            assert await running._drain() == finishes
        await sleeping.stop()
        await keeping

    asyncio.run(scene())
