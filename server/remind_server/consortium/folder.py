"""The folder of a consortium: what lies where, who may read it, who is writing in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from remind.errors import UserError
from remind.processes.locks import locked
from remind.processes.private_files import private_folder, write_private
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
    def locked(self, name: str, busy: str = "") -> Iterator[None]:
        """Hold the lock `name` of this consortium; if another process does, a UserError says `busy`, or it waits."""
        with locked(self.root / f".{name}.lock", f"{self.root}: {busy}" if busy else ""):
            yield


def write_file(path: Path, content: bytes) -> None:
    """Make or replace a private file of a consortium at once; its folder is made if it is not there."""
    write_private(private_folder(path.parent) / path.name, content)


def read_file(path: Path) -> bytes:
    """Content of a consortium's file, or a UserError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror}") from None
