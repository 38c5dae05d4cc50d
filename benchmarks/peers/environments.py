"""A peer's own Python environment, made when it is needed: it sees the packages that are installed here, torch too."""

import subprocess
import sys
import sysconfig
from pathlib import Path

from peers.measure import FailedError

FOLDER = Path.home() / ".cache" / "federated-remind" / "benchmarks"
WANTED = {"nvflare": "nvflare>=2.9,<2.10", "pfl": "pfl>=0.6,<0.7"}
READY = "installed"


def python_of(name: str, folder: Path = FOLDER) -> Path:
    """Return the interpreter of a peer's environment, which is made if it is not there.

    What is installed there comes first; after it what is installed here, so that torch is not installed twice.

    Raises
    ------
    FailedError
        The peer cannot be installed.
    """
    home = folder / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = home / "bin" / "python"
    if (home / READY).exists():
        return python
    _call([sys.executable, "-m", "venv", "--clear", str(home)])
    own = Path(sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)}))
    here = sysconfig.get_path("purelib")
    (own / "zz_host.pth").write_text(f"import site; site.addsitedir({here!r})\n", encoding="utf-8")
    _call([str(python), "-m", "pip", "install", "--quiet", WANTED[name]])
    (home / READY).touch()
    return python


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise FailedError(f"{' '.join(command[1:4])}: {last}")
