"""The folder of a consortium: what lies where, who may read it, who is writing in it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from remind.errors import UserError
from remind.files import write_whole
from remind_server.consortium.settings import Consortium, read_settings


@dataclass(frozen=True)
class Folder:
    """Paths of a consortium's files; all secret but the certificates, all its owner's alone."""

    root: Path

    @cached_property
    def settings(self) -> Consortium:
        """What ``consortium.toml`` says."""
        return read_settings(self.settings_file)

    @property
    def settings_file(self) -> Path:  # noqa: D102
        return self.root / "consortium.toml"

    @property
    def ca_key(self) -> Path:
        """Key that signs certificates; needed for `renew` only, best kept elsewhere."""
        return self.root / "ca" / "ca.key"

    @property
    def ca_certificate(self) -> Path:  # noqa: D102
        return self.root / "ca" / "ca.crt"

    @property
    def trust(self) -> Path:
        """What hospitals trust: the CA certificate, and in a rollover the other one, too."""
        return self.root / "ca" / "trust.crt"

    @property
    def server(self) -> Path:
        """Key and certificate that the proxy shows to hospitals; one file, so that they always belong together."""
        return self.root / "tls" / "server.pem"

    @property
    def loopback_ca(self) -> Path:
        """What our own processes trust; its key was thrown away when it had signed."""
        return self.root / "loopback" / "ca.crt"

    @property
    def loopback(self) -> Path:
        """Key and certificate that the SuperLink shows to the proxy, the SuperExec and these commands."""
        return self.root / "loopback" / "superlink.pem"

    @property
    def superexec_secret(self) -> Path:
        """Without it nobody is given a task by the SuperLink."""
        return self.root / "secrets" / "superexec"

    @property
    def ledger(self) -> Path:
        """Who was let in and out."""
        return self.root / "ledger.json"

    @property
    def database(self) -> Path:
        """State of the SuperLink."""
        return self.root / "state" / "superlink.db"

    @property
    def flower_home(self) -> Path:
        """FLWR_HOME of our processes."""
        return self.root / "flwr"

    @property
    def operations(self) -> Path:
        """Who did what: a record to which lines are only ever added."""
        return self.root / "operations.jsonl"

    @property
    def runs(self) -> Path:
        """A record of each run: who took part, how far it is, where its results lie."""
        return self.root / "runs"

    @property
    def run(self) -> Path:
        """Written anew at every start."""
        return self.root / "run"

    @contextmanager
    def locked(self, name: str, busy: str) -> Iterator[None]:
        """Hold the lock `name` of this consortium; a UserError says `busy` if another process does."""
        with (self.root / f".{name}.lock").open("a") as file:
            os.chmod(file.name, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{self.root}: {busy}") from None
            yield


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Make or replace a file at once; its folder is made if it is not there. Only its owner may read either."""
    path.parent.mkdir(mode=0o700, exist_ok=True)

    def write(partial: Path) -> None:
        partial.unlink(missing_ok=True)  # left by a kill
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    write_whole(path, write)


def read_file(path: Path) -> bytes:
    """Content of a consortium's file, or a UserError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror}") from None
