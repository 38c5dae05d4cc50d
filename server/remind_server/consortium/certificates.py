"""A consortium's certificates on disk.

Create, inspect and renew them, and replace the CA while hospitals stay connected.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from remind.errors import UserError
from remind_server.consortium.authority import (
    CA_DAYS,
    certificate_pem,
    issue_ca,
    issue_server,
    key_pem,
    load_key,
    new_key,
)
from remind_server.consortium.folder import Folder, read_file, write_file

WARN = timedelta(days=30)
LOOPBACK = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Lifetime:
    """When a certificate expires, and the command that renews it."""

    name: str
    path: Path
    ends: datetime
    remedy: str

    def problem(self, now: datetime) -> str:
        """Return the warning about it; empty if none."""
        if self.ends <= now:
            return f"{self.path}: the {self.name} certificate expired on {self.ends:%Y-%m-%d}; {self.remedy}"
        if self.ends - now <= WARN:
            ends = f"expires in {(self.ends - now).days} day(s), on {self.ends:%Y-%m-%d}"
            return f"{self.path}: the {self.name} certificate {ends}; {self.remedy}"
        return ""


def create(folder: Folder, passphrase: bytes | None, ca_days: int, days: int) -> None:
    """Create the CA, server and loopback certificates of a new consortium."""
    key = new_key()
    ca = issue_ca(key, folder.settings.name, ca_days)
    write_file(folder.ca_key, key_pem(key, passphrase))
    write_file(folder.ca_certificate, certificate_pem(ca))
    write_file(folder.trust, certificate_pem(ca))
    renew_server(folder, passphrase, days)
    renew_loopback(folder)


def renew_server(folder: Folder, passphrase: bytes | None, days: int, ca_key: Path | None = None) -> datetime:
    """Create a key and certificate for the hosts in ``consortium.toml``; return its expiry. `serve` reloads it."""
    source = ca_key or folder.ca_key
    if not source.exists():
        raise UserError(
            f"{source}: the CA's key is missing; fetch it from where you keep it and give its path: --ca-key"
        )
    signing = load_key(read_file(source), passphrase, str(source))
    ca = load_certificates(folder.ca_certificate)[0]
    if ca.public_key() != signing.public_key():
        raise UserError(f"{source} is not the key of {folder.ca_certificate}; give the right key with --ca-key")
    if ca.not_valid_after_utc <= datetime.now(UTC):
        raise UserError(f"{folder.ca_certificate} has expired; replace the CA: see 'A new CA' in the coordinator guide")
    key = new_key()
    certificate = issue_server(key.public_key(), folder.settings.public.hosts, signing, ca, days)
    write_file(folder.server, key_pem(key, None) + certificate_pem(certificate))
    return certificate.not_valid_after_utc


def renew_loopback(folder: Folder) -> None:
    """Create new certificates between our own processes, which must be restarted. The signing key is not kept."""
    ca_key, key = new_key(), new_key()
    ca = issue_ca(ca_key, f"{folder.settings.name} loopback", CA_DAYS)
    certificate = issue_server(key.public_key(), LOOPBACK, ca_key, ca, CA_DAYS)
    write_file(folder.loopback_ca, certificate_pem(ca))
    write_file(folder.loopback, key_pem(key, None) + certificate_pem(certificate))


def lifetimes(folder: Folder) -> list[Lifetime]:
    """Return when each certificate expires."""
    root = folder.root
    return [
        Lifetime("server", folder.server, _end(folder.server), f"run: remind consortium renew {root}"),
        Lifetime("loopback", folder.loopback, _end(folder.loopback), f"run: remind consortium renew {root} --loopback"),
        Lifetime("CA", folder.ca_certificate, _end(folder.ca_certificate), "see 'A new CA' in the coordinator guide"),
    ]


def warnings(folder: Folder, now: datetime | None = None) -> list[str]:
    """Warn about certificates that expire within 30 days, have expired, or do not match."""
    now = now or datetime.now(UTC)
    return [problem for lifetime in lifetimes(folder) if (problem := lifetime.problem(now))] + mismatches(folder)


def mismatches(folder: Folder) -> list[str]:
    """Warn about hosts that the server certificate does not cover, and about a CA that did not sign it."""
    said = []
    certificate = load_certificates(folder.server)[0]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    held = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
    remedy = f"run: remind consortium renew {folder.root}"
    if missing := [host for host in folder.settings.public.hosts if host not in held]:
        said.append(f"{folder.server}: does not cover {', '.join(missing)}, named in public.hosts; {remedy}")
    if not any(_issued(certificate, ca) for ca in load_certificates(folder.trust)):
        said.append(f"{folder.server}: not signed by a CA in {folder.trust}; {remedy}")
    return said


def require_valid(folder: Folder, now: datetime | None = None) -> None:
    """Refuse to continue with an expired certificate: every hospital would refuse it."""
    now = now or datetime.now(UTC)
    for lifetime in lifetimes(folder):
        if lifetime.ends <= now:
            raise UserError(lifetime.problem(now))


def load_certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates in a PEM file; a UserError names the file if there are none."""
    try:
        return x509.load_pem_x509_certificates(read_file(path))
    except ValueError:
        raise UserError(f"{path}: contains no readable certificate; restore it from a backup") from None


def _end(path: Path) -> datetime:
    return load_certificates(path)[0].not_valid_after_utc


def _issued(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except Exception:  # any failure means: not issued by this one
        return False
    return True
