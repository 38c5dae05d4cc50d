"""The folder of a consortium: paths, file permissions, locks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from remind.alerts.settings import FILE_NAME
from remind.errors import UserError
from remind.processes.locks import locked
from remind.processes.private_files import private_folder, write_private
from remind_server.consortium.settings import Consortium, read_settings


@dataclass(frozen=True)
class Folder:
    """Paths of a consortium's files. All except certificates are secret; only the owner can read them."""

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
        """Return the path of the key that signs certificates; only `renew` needs it, so keep it elsewhere."""
        return self.root / "ca" / "ca.key"

    @property
    def ca_certificate(self) -> Path:  # noqa: D102
        return self.root / "ca" / "ca.crt"

    @property
    def trust(self) -> Path:
        """Return the path of the certificates that hospitals trust: the CA's, and during a rollover the other CA's."""
        return self.root / "ca" / "trust.crt"

    @property
    def server(self) -> Path:
        """Return the path of the proxy's key and certificate for hospitals; one file, so that they always match."""
        return self.root / "tls" / "server.pem"

    @property
    def loopback_ca(self) -> Path:
        """Return the path of the CA that our own processes trust; its key was deleted after it had signed."""
        return self.root / "loopback" / "ca.crt"

    @property
    def loopback(self) -> Path:
        """Return the path of the SuperLink's key and certificate for the proxy, the SuperExec and these commands."""
        return self.root / "loopback" / "superlink.pem"

    @property
    def superexec_secret(self) -> Path:
        """Return the path of the secret that the SuperLink requires before it hands out a task."""
        return self.root / "secrets" / "superexec"

    @property
    def alerts(self) -> Path:
        """Return the path of the file that says whom to tell what; it need not be there."""
        return self.root / FILE_NAME

    @property
    def alerted(self) -> Path:
        """Return the path of the list of certificates that were told of."""
        return self.root / "state" / "alerted.json"

    @property
    def ledger(self) -> Path:
        """Return the path of the ledger of enrolled and revoked sites."""
        return self.root / "ledger.json"

    @property
    def database(self) -> Path:
        """Return the folder of the SuperLink's state."""
        return self.root / "state" / "superlink.db"

    @property
    def flower_home(self) -> Path:
        """Return FLWR_HOME of our processes."""
        return self.root / "flwr"

    @property
    def operations(self) -> Path:
        """Return the path of the append-only log of operations."""
        return self.root / "operations.jsonl"

    @property
    def runs(self) -> Path:
        """Return the folder of run records: participants, progress, path of the results."""
        return self.root / "runs"

    @property
    def run(self) -> Path:
        """Return the path of the proxy's configuration, rewritten at every start."""
        return self.root / "run"

    @contextmanager
    def locked(self, name: str, busy: str = "") -> Iterator[None]:
        """Hold the lock `name` of this consortium; if it is taken, raise a UserError with the text `busy`, or wait."""
        with locked(self.root / f".{name}.lock", f"{self.root}: {busy}" if busy else ""):
            yield


def write_file(path: Path, content: bytes) -> None:
    """Create or replace a private file of a consortium atomically; create its folder if missing."""
    write_private(private_folder(path.parent) / path.name, content)


def read_file(path: Path) -> bytes:
    """Return the content of a consortium's file; raise a UserError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror}") from None
