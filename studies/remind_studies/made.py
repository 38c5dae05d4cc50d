"""Record the command, date, machine and versions of a study."""

import platform
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from remind.config import Section
from remind.version import VERSION


class Made(Section):
    """Command, local time, duration in seconds, machine and versions."""

    command: str
    date: str
    seconds: float
    machine: str
    python: str
    torch: str
    version: str
    commit: str


def made(command: str, seconds: float) -> Made:
    """Return the record of this process."""
    return Made(
        command=command,
        date=f"{datetime.now():%Y-%m-%d %H:%M}",
        seconds=round(seconds, 1),
        machine=f"{_processor()}, {platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=version("torch"),
        version=VERSION,
        commit=_commit(),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} × {models[0]}" if models else platform.machine()


def _commit() -> str:
    """Return the commit of this package, with + if files differ from it; empty outside a repository."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
