"""Child programs: kept running, their output read, and ended with all their own children."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remind.processes import tether
from remind.processes.child import Child, Patience, announce, to_log

QUICK = Patience(first=0.01, longest=60.0, grace=0.5)
SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
MOTHER = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-u", "-c", {STUBBORN!r}], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid)
child.wait()
"""


def python(code, said=None, **more):
    say = (lambda text: None) if said is None else said.append
    return Child("program", [sys.executable, "-u", "-c", code], dict(os.environ), say, **{"patience": QUICK} | more)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition, limit=60.0):
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def kept(child):
    keeping = asyncio.create_task(child.keep())
    try:
        yield child
    finally:
        await child.stop()
        await asyncio.wait_for(keeping, 60)
        assert child.pid is None


def test_what_ends_is_started_again_ever_later_and_heard(capfd):
    said, lines, starts = [], [], []

    async def scene():
        child = python(
            "print('hello'); raise SystemExit(3)", said, hear=lines.append, on_start=lambda: starts.append(1)
        )
        async with kept(child):
            await until(lambda: child.ends >= 4)
        assert child.last_end == "exit code 3"

    asyncio.run(scene())
    assert lines[:3] == ["hello"] * 3
    assert len(starts) >= 4
    assert [float(text.split(" in ")[1].split()[0]) for text in said][:4] == [0.01, 0.02, 0.04, 0.08]
    assert said[0] == "program ended (exit code 3); starting it again in 0.01 s"
    assert "[program] hello" in capfd.readouterr().err


def test_what_was_heard_and_is_not_for_the_log_is_not_there(capfd):
    async def scene():
        lines = []

        def heard(line):
            lines.append(line)
            return line == "note"

        child = python(f"print('note'); print('word'); {SLEEP}", hear=heard)
        async with kept(child):
            await until(lambda: "word" in lines)

    asyncio.run(scene())
    assert capfd.readouterr().err == "[program] word\n"


def test_what_is_not_heard_writes_to_our_output(capfd):
    async def scene():
        async with kept(python("print('plain'); raise SystemExit(0)")) as child:
            await until(lambda: child.ends >= 1)

    asyncio.run(scene())
    assert capfd.readouterr().out.startswith("plain\n")


def test_pauses_have_an_end_and_a_program_that_is_not_there_is_said():
    said = []

    async def scene():
        ghost = Child("ghost", ["/nowhere/ghost"], {}, said.append, patience=Patience(first=0.01, longest=0.02))
        async with kept(ghost):
            await until(lambda: ghost.ends >= 4)

    asyncio.run(scene())
    assert said[0] == "ghost cannot be started: /nowhere/ghost: no such program"
    assert said[1] == "ghost ended (not started); starting it again in 0.01 s"
    assert said[-1].endswith("in 0.02 s")


def test_a_killed_program_is_named_with_its_signal():
    said = []

    async def scene():
        async with kept(python(SLEEP, said)) as child:
            await until(lambda: child.pid)
            first = child.pid
            child.signal(signal.SIGKILL)
            await until(lambda: child.pid not in (None, first))

    asyncio.run(scene())
    assert "SIGKILL" in said[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "crash", "restart"])
def test_what_a_program_has_started_goes_with_it_even_if_it_will_not(how):
    async def scene():
        lines = []
        async with kept(python(MOTHER, hear=lines.append)) as child:
            await until(lambda: lines)
            if how == "crash":
                child.signal(signal.SIGKILL)
                await until(lambda: len(lines) > 1)
                assert not alive(int(lines[0]))
            elif how == "restart":
                await child.restart("it says nothing")
                assert not alive(int(lines[0]))
                await until(lambda: len(lines) > 1)
            assert alive(int(lines[-1]))
        assert not alive(int(lines[-1]))

    asyncio.run(scene())


def test_stop_asks_once_and_waits_for_an_orderly_end(tmp_path):
    """A second SIGTERM makes some programs drop what they are at."""
    asked = tmp_path / "asked"
    code = f"""
import signal, sys, time
def end(*_):
    open({str(asked)!r}, "a").write("x")
    time.sleep(0.3)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready")
time.sleep(60)
"""

    async def scene():
        lines = []
        async with kept(python(code, hear=lines.append, patience=Patience(grace=30.0))):
            await until(lambda: lines)

    asyncio.run(scene())
    assert asked.read_text() == "x"


@pytest.mark.parametrize("code", [SLEEP, STUBBORN])
def test_a_stop_while_it_is_being_started(code):
    async def scene():
        child = python(code, hear=to_log)
        keeping = asyncio.create_task(child.keep())
        await asyncio.sleep(0)  # under way, not there yet
        assert child.pid is None
        await child.stop()
        await asyncio.wait_for(keeping, 60)
        assert child.pid is None

    asyncio.run(scene())


def test_a_very_long_line_does_not_stop_the_listening():
    async def scene():
        lines = []
        async with kept(python(f"print('x' * 3_000_000); print('after'); {SLEEP}", hear=lines.append)):
            await until(lambda: "after" in lines)

    asyncio.run(scene())


def gone(process, child):
    process.kill()
    process.wait(60)

    async def wait():
        await until(lambda: not alive(child))

    asyncio.run(wait())


@pytest.mark.skipif(sys.platform != "linux", reason="a tether holds on Linux")
def test_a_program_ends_with_a_supervisor_that_is_killed():
    supervisor = f"""
import asyncio, os, sys
from remind.processes.child import Child
command = [sys.executable, "-u", "-c", "import os; print(os.getpid()); {SLEEP}"]
child = Child("program", command, dict(os.environ), print)
asyncio.run(child.keep())
"""
    with subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        assert alive(child)
        gone(process, child)


@pytest.mark.skipif(sys.platform != "linux", reason="a tether holds on Linux")
def test_a_tether_to_a_starter_that_is_gone_already_starts_nothing():
    words = [
        sys.executable,
        "-I",
        "-S",
        tether.__file__,
        str(os.getpid() + 1),
        sys.executable,
        "-c",
        "print('started')",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_our_own_lines_name_the_program(capsys):
    announce("remind-site", "all is up")
    assert capsys.readouterr().err == "remind-site: all is up\n"
