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
    """When a certificate ends, and the command that renews it."""

    name: str
    path: Path
    ends: datetime
    remedy: str

    def problem(self, now: datetime) -> str:
        """The warning about it; empty if there is none."""
        if self.ends <= now:
            return f"{self.path}: the {self.name} certificate ended on {self.ends:%Y-%m-%d}; {self.remedy}"
        if self.ends - now <= WARN:
            ends = f"ends in {(self.ends - now).days} day(s), on {self.ends:%Y-%m-%d}"
            return f"{self.path}: the {self.name} certificate {ends}; {self.remedy}"
        return ""


def create(folder: Folder, passphrase: bytes | None, ca_days: int, days: int) -> None:
    """CA, server and loopback certificates of a new consortium."""
    key = new_key()
    ca = issue_ca(key, folder.settings.name, ca_days)
    write_file(folder.ca_key, key_pem(key, passphrase))
    write_file(folder.ca_certificate, certificate_pem(ca))
    write_file(folder.trust, certificate_pem(ca))
    renew_server(folder, passphrase, days)
    renew_loopback(folder)


def renew_server(folder: Folder, passphrase: bytes | None, days: int, ca_key: Path | None = None) -> datetime:
    """A new key and certificate for the hosts in ``consortium.toml``; when it ends. `serve` takes it up by itself."""
    source = ca_key or folder.ca_key
    if not source.exists():
        raise UserError(f"{source}: the CA's key is not there; bring it from where you keep it and name it: --ca-key")
    signing = load_key(read_file(source), passphrase, str(source))
    ca = load_certificates(folder.ca_certificate)[0]
    if ca.public_key() != signing.public_key():
        raise UserError(f"{source} is not the key of {folder.ca_certificate}; give the CA's own with --ca-key")
    if ca.not_valid_after_utc <= datetime.now(UTC):
        raise UserError(f"{folder.ca_certificate} has ended; replace the CA: see 'A new CA' in the coordinator guide")
    key = new_key()
    certificate = issue_server(key.public_key(), folder.settings.public.hosts, signing, ca, days)
    write_file(folder.server, key_pem(key, None) + certificate_pem(certificate))
    return certificate.not_valid_after_utc


def renew_loopback(folder: Folder) -> None:
    """New certificates between our own processes, which must be restarted. The key that signs is kept nowhere."""
    ca_key, key = new_key(), new_key()
    ca = issue_ca(ca_key, f"{folder.settings.name} loopback", CA_DAYS)
    certificate = issue_server(key.public_key(), LOOPBACK, ca_key, ca, CA_DAYS)
    write_file(folder.loopback_ca, certificate_pem(ca))
    write_file(folder.loopback, key_pem(key, None) + certificate_pem(certificate))


def lifetimes(folder: Folder) -> list[Lifetime]:
    """When each certificate ends."""
    root = folder.root
    return [
        Lifetime("server", folder.server, _end(folder.server), f"run: remind consortium renew {root}"),
        Lifetime("loopback", folder.loopback, _end(folder.loopback), f"run: remind consortium renew {root} --loopback"),
        Lifetime("CA", folder.ca_certificate, _end(folder.ca_certificate), "see 'A new CA' in the coordinator guide"),
    ]


def warnings(folder: Folder, now: datetime | None = None) -> list[str]:
    """Warnings about certificates that expire within 30 days, have expired, or do not match."""
    now = now or datetime.now(UTC)
    return [problem for lifetime in lifetimes(folder) if (problem := lifetime.problem(now))] + mismatches(folder)


def mismatches(folder: Folder) -> list[str]:
    """Hosts that the server certificate is not for, and a CA that has not signed it."""
    said = []
    certificate = load_certificates(folder.server)[0]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    held = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
    remedy = f"run: remind consortium renew {folder.root}"
    if missing := [host for host in folder.settings.public.hosts if host not in held]:
        said.append(f"{folder.server}: not for {', '.join(missing)}, which public.hosts names; {remedy}")
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
    """Certificates in a PEM file; a UserError names it if there is none."""
    try:
        return x509.load_pem_x509_certificates(read_file(path))
    except ValueError:
        raise UserError(f"{path}: holds no certificate that can be read; restore it from a backup") from None


def _end(path: Path) -> datetime:
    return load_certificates(path)[0].not_valid_after_utc


def _issued(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except Exception:  # whatever is wrong with it: not issued by this one
        return False
    return True
