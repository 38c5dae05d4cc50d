"""Programs are kept running, and gone when they are to be."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from remind_server.consortium import supervisor
from remind_server.consortium.supervisor import Child, Program

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
MOTHER = """
import os, subprocess, sys, pathlib
child = subprocess.Popen([sys.executable, "-c", {child!r}])
pathlib.Path({told!r}).write_text(str(child.pid))
child.wait()
"""


def program(code):
    return Program("program", [sys.executable, "-c", code], dict(os.environ))


def alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def until(condition, limit=20.0):
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def kept(child, said):
    task = asyncio.create_task(child.keep(said.append))
    try:
        yield task
    finally:
        child.stop()
        await asyncio.wait_for(task, 30)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(supervisor, "GRACE", 0.5)


def test_what_ends_is_started_again_ever_later(quick, tmp_path):
    said, starts = [], tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(3)"

    async def scene():
        child = Child(program(code))
        async with kept(child, said):
            await until(lambda: child.ends >= 4)

    asyncio.run(scene())
    assert len(starts.read_text()) >= 4
    pauses = [float(text.split(" in ")[1].split()[0]) for text in said]
    assert pauses[:4] == [0.01, 0.02, 0.04, 0.08]
    assert "exit code 3" in said[0]


def test_pauses_have_an_end(monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 0.02)
    said = []

    async def scene():
        child = Child(Program("ghost", ["/nowhere/ghost"], {}))
        async with kept(child, said):
            await until(lambda: child.ends >= 4)

    asyncio.run(scene())
    assert "cannot be started" in said[0]
    assert said[-1].endswith("in 0.02 s")


def test_a_killed_program_is_named_with_its_signal(quick):
    said = []

    async def scene():
        child = Child(program("import time; time.sleep(60)"))
        async with kept(child, said):
            await until(lambda: child.running)
            first = child.process.pid
            child.signal(signal.SIGKILL)
            await until(lambda: child.running and child.process.pid != first)

    asyncio.run(scene())
    assert "SIGKILL" in said[0]


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_what_a_program_has_started_goes_with_it(quick, tmp_path, how):
    told = tmp_path / "pid"
    code = MOTHER.format(child=STUBBORN + "time.sleep(60)", told=str(told))

    async def scene():
        child = Child(program(code))
        async with kept(child, []):
            await until(lambda: told.exists() and told.read_text())
            pid = int(told.read_text())
            assert alive(pid)
            if how == "crash":
                told.unlink()
                child.signal(signal.SIGKILL)
                await until(told.exists)
                assert not alive(pid)
                await until(told.read_text)
                pid = int(told.read_text())
        assert not alive(pid)

    asyncio.run(scene())


def test_a_program_that_does_not_want_to_end(quick):
    async def scene():
        child = Child(program(STUBBORN + "print(1, flush=True); time.sleep(60)"))
        async with kept(child, []):
            await until(lambda: child.running)
        assert child.process.returncode in (-signal.SIGKILL, -signal.SIGTERM)

    asyncio.run(scene())


def test_an_end_while_it_is_being_started(quick):
    async def scene():
        child = Child(program("import time; time.sleep(60)"))
        task = asyncio.create_task(child.keep(lambda _: None))
        await asyncio.sleep(0)  # under way, not there yet
        assert child.process is None
        child.stop()
        await asyncio.wait_for(task, 30)
        assert not child.running

    asyncio.run(scene())
