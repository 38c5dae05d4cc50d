"""Chooses the local SuperLink for a run, and never silently one that was started in another environment.

`flwr run` hands a run to whatever answers on its port, and what runs there sees the environment in which that SuperLink
was started, not the command's. So the environments are compared, and a run whose environment differs gets a SuperLink
of its own. If processes cannot be inspected (no ``/proc``), the command says that it does not know.
"""

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from remind_server.flower_internals import local_superlink, local_superlink_may_take, replace_local_superlink

PROC = Path("/proc")
PORT_VARIABLE = "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT"
DECIDING = re.compile(  # variables that change what a run does; other variables of a shell differ from window to window
    r"(FLWR|MLFLOW|HF|HUGGINGFACE|TRANSFORMERS|TOKENIZERS|TIMM|CUDA|NVIDIA|ROCR|HIP|TORCH|TORCHINDUCTOR|PYTORCH|OMP|MKL"
    r"|OPENBLAS|KMP|NCCL|RAY|REMIND|AWS|GOOGLE|AZURE|TENSORBOARD|PYTHON|PG|MALLOC)_?\w*"
    r"|HOME|TMPDIR|XDG_CACHE_HOME|XDG_DATA_HOME|LD_LIBRARY_PATH|LD_PRELOAD|SSL_CERT_FILE|REQUESTS_CA_BUNDLE"
    r"|(HTTP|HTTPS|NO|ALL)_PROXY|(http|https|no|all)_proxy"
)
INDIFFERENT = {
    "FLWR_DISABLE_UPDATE_CHECK",  # Flower sets it when it starts one
    "FLWR_LOCAL_CONTROL_API_PORT",
    "FLWR_TELEMETRY_ENABLED",
    "PYTHONUNBUFFERED",
    "TORCHINDUCTOR_CACHE_DIR",  # torch sets it in a process that loads its compiler
}
HOME = "FLWR_HOME"
PATIENCE = 120.0  # seconds for a SuperLink to start, on a busy machine


@dataclass(frozen=True)
class Superlink:
    """A SuperLink for simulations on this machine; `environment` is None if another user runs it."""

    pid: int
    port: str
    program: str
    environment: Mapping[str, str] | None


@dataclass(frozen=True)
class Choice:
    """Where to submit, and a message about it; `in_memory`: another SuperLink uses the database of this FLWR_HOME."""

    port: str
    note: str = ""
    in_memory: bool = False


def differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return the names of relevant variables that differ between the two environments."""
    one, other = (_deciding(environment) for environment in (ours, theirs))
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def choose(
    port: str,
    running: Sequence[Superlink] | None,
    answers: Callable[[str], bool],
    environment: Mapping[str, str],
    program: str,
    free_port: Callable[[], str],
) -> Choice:
    """Return the SuperLink for a run that a command with this environment submits.

    Parameters
    ----------
    port
        Port to which Flower would submit.
    running
        SuperLinks of this machine; None if that cannot be known.
    answers
        Function that returns whether a SuperLink answers on a port.
    program
        ``flower-superlink`` as this command would start it.
    """
    if running is None:
        if not answers(port):
            return Choice(port)
        return Choice(
            port,
            f"note: this run goes to the SuperLink that answers on port {port}, and sees the environment in which that "
            f"one was started, which cannot be inspected; for one of its own set {PORT_VARIABLE} to a free port",
        )
    by_nearness = sorted(running, key=lambda link: link.port != port)
    for link in by_nearness:
        if not _difference(link, environment, program) and answers(link.port):
            return Choice(link.port)
    if not answers(port):
        return Choice(port, in_memory=_shares_home(running, environment))
    there = next((link for link in running if link.port == port), None)
    why = ", ".join(_difference(there, environment, program)) if there else "it is not known whose it is"
    own = free_port()
    note = (
        f"note: the SuperLink on port {port} was started in another environment ({why}); this run gets one of its own "
        f"on port {own}"
    )
    return Choice(own, note, in_memory=_shares_home(running, environment))


def _difference(link: Superlink, environment: Mapping[str, str], program: str) -> list[str]:
    if link.environment is None:
        return ["another user"]
    other = ["another installation"] if os.path.realpath(link.program) != os.path.realpath(program) else []
    return other + differing(environment, link.environment)


def _shares_home(running: Iterable[Superlink], environment: Mapping[str, str]) -> bool:
    return any(link.environment is not None and _home(link.environment) == _home(environment) for link in running)


def _home(environment: Mapping[str, str]) -> str:
    home = environment.get(HOME) or os.path.join(environment.get("HOME", "~"), ".flwr")
    return os.path.realpath(os.path.expanduser(home))


def _deciding(environment: Mapping[str, str]) -> dict[str, str]:
    found = {k: v for k, v in environment.items() if DECIDING.fullmatch(k) and k not in INDIFFERENT and v}
    return found | {HOME: _home(environment)}


def running_superlinks(proc: Path = PROC) -> list[Superlink] | None:
    """Return the SuperLinks for simulations on this machine; None if processes cannot be inspected."""
    if not (proc / "self" / "environ").exists():
        return None
    found = []
    for folder in proc.glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # the process has ended
            continue
        program = next((word for word in words[:3] if Path(word).name == "flower-superlink"), None)
        if program is None or "--simulation" not in words or "--port" not in words:
            continue
        try:
            pairs = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            pairs = None
        environment = None if pairs is None else dict(p.split("=", 1) for p in pairs if "=" in p)
        found.append(Superlink(int(folder.name), words[words.index("--port") + 1], program, environment))
    return found


def free_port() -> str:
    """Return a port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@contextmanager
def right_superlink(say: Callable[[str], None]) -> Iterator[str]:
    """Make Flower submit to the right SuperLink in this context; yield its port if it is not the default one, else "".

    If Flower is built otherwise, it stays as it is.
    """
    found = local_superlink()
    if found is None:
        yield ""
        return
    usual, start = found
    chosen = choose(
        usual,
        running_superlinks(),
        answers,
        os.environ,
        shutil.which("flower-superlink") or "flower-superlink",
        free_port,
    )
    if chosen.note:
        say(chosen.note)
    replace_local_superlink(chosen.port, (lambda in_memory=False: start(True)) if chosen.in_memory else start)
    try:
        with local_superlink_may_take(PATIENCE):
            yield "" if chosen.port == usual else chosen.port
    finally:
        replace_local_superlink(usual, start)


def answers(port: str) -> bool:
    """Return whether a healthy SuperLink answers on a port."""
    import httpx

    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2.0).is_success
    except httpx.HTTPError:
        return False
