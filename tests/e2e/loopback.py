"""A coordinator on loopback by Flower's own options, and hospitals by `remind-site`: real processes, TLS, own keys."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from remind.consortium.enrolment import verify_request
from remind_server.consortium.flower import Control
from tests.machine import until

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def certificates(folder: Path, ends: timedelta = timedelta(days=365)) -> tuple[Path, Path, Path]:
    """A CA, and a server certificate for loopback with its key: three PEM files."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    ca_key, key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())

    def builder(subject: str, public: ec.EllipticCurvePublicKey, until: datetime) -> x509.CertificateBuilder:
        built = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("test CA")).public_key(public)
        built = built.serial_number(x509.random_serial_number())
        return built.not_valid_before(now - timedelta(days=30)).not_valid_after(until)

    ca = (
        builder("test CA", ca_key.public_key(), now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA384())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    server = (
        builder("coordinator", key.public_key(), now + ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA384())
    )
    pem = serialization.Encoding.PEM
    paths = folder / "ca.crt", folder / "server.pem", folder / "server.key"
    paths[0].write_bytes(ca.public_bytes(pem))
    paths[1].write_bytes(server.public_bytes(pem))
    paths[2].write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return paths


def site_command(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run `remind-site` to its end."""
    command = [sys.executable, "-m", "remind_client", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=480, check=False, env=os.environ | (env or {})
    )


@dataclass
class Consortium:
    """A SuperLink with TLS and node authentication."""

    folder: Path
    flwr: Callable[..., subprocess.CompletedProcess]
    link: Control  # stays open: tests ask often for the status of a run
    port: int
    ca: Path

    def kit(self, site: str) -> Path:
        """As the coordinator's kit: settings to complete, and the CA certificate."""
        kit = self.folder / "kits" / site
        kit.mkdir(parents=True)
        (kit / "ca.crt").write_bytes(self.ca.read_bytes())
        (kit / "site.toml").write_text(
            f'site = "{site}"\ncohort = ""\n\n[coordinator]\nconsortium = "loopback"\n'
            f'address = "127.0.0.1:{self.port}"\nca_certificate = "ca.crt"\n'
        )
        return kit

    def enrol(self, request: Path) -> None:
        """Enrol a site by its request."""
        asked = verify_request(request.read_text())
        public = self.folder / f"{asked.site}.pub"
        public.write_text(asked.public_key + "\n")
        done = self.flwr("supernode", "register", str(public), "prod", "--name", asked.site, "--format", "json")
        assert json.loads(done.stdout)["success"], done.stdout + done.stderr

    def submit(self, app: Path, settings: str) -> str:
        """Start a run; return its id."""
        options = ["-c", settings] if settings else []
        done = self.flwr("run", str(app), "prod", "--format", "json", *options)
        answer = json.loads(done.stdout)
        assert answer["success"], done.stdout + done.stderr
        return str(answer["run-id"])

    def status(self, run_id: str) -> str:
        return self.link.run(int(run_id)).status

    def finish(self, run_id: str, limit: float = 240) -> str:
        """Wait for a run's end; how it ended."""
        until(lambda: self.status(run_id).startswith("finished"), f"run {run_id}", limit)
        return self.status(run_id)


@dataclass
class Hospital:
    """A site's folder and its running process."""

    folder: Path
    health: int
    process: subprocess.Popen | None = None

    @property
    def log(self) -> Path:
        return self.folder / "site.log"

    def start(self, **env: str) -> None:
        with self.log.open("a") as out:
            command = [sys.executable, "-m", "remind_client", "run", "-c", str(self.folder)]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | env)

    def ask(self, page: str) -> tuple[int, dict]:
        """Return a page of the health server; code 0 while no server listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}/{page}", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}

    def wait_ready(self, limit: float = 90) -> None:
        assert self.process is not None
        until(
            lambda: self.ask("ready")[0] == 200 or self.process.poll() is not None,
            f"site ready; its log:\n{self.log.read_text()[-3000:]}",
            limit,
        )
        assert self.process.poll() is None, self.log.read_text()[-3000:]

    def stop(self, limit: float = 60) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(limit)

    def audit(self) -> list[dict]:
        files = sorted((self.folder / "state" / "audit").glob("audit-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def share_machine(site: Path, health: int) -> None:
    """Let a site run beside others: a port of its own, no GPU, and one thread: two that wait for a core use it."""
    set_value(site / "site.toml", "health_port = 8780", f"health_port = {health}")
    set_value(site / "site.toml", 'device = "auto"', 'device = "cpu"')
    set_value(site / "site.toml", "threads = 0", "threads = 1")


def set_value(file: Path, old: str, new: str) -> None:
    """Replace a line of an existing file."""
    text = file.read_text()
    assert old in text, f"{old!r} is not in {file}"
    file.write_text(text.replace(old, new))
