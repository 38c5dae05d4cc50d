"""Create keys and certificates (X.509, ECDSA on P-384) with pure functions; `certificates` writes them to files."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from remind.errors import UserError
from remind_server.consortium import PASSPHRASE

CA_DAYS = 3650
_BEFORE = timedelta(hours=1)  # valid from a little earlier, for slow clocks

PrivateKey = ec.EllipticCurvePrivateKey


def new_key() -> PrivateKey:
    """Return a key on P-384."""
    return ec.generate_private_key(ec.SECP384R1())


def issue_ca(key: PrivateKey, name: str, days: int, now: datetime | None = None) -> x509.Certificate:
    """Return a self-signed CA certificate that may sign server certificates but no other CA."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} CA"[:64])])
    return (
        _builder(key.public_key(), subject, subject, days, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )


def issue_server(
    key: ec.EllipticCurvePublicKey,
    hosts: Sequence[str],
    ca_key: PrivateKey,
    ca: x509.Certificate,
    days: int,
    now: datetime | None = None,
) -> x509.Certificate:
    """Return a server certificate for these names and addresses. It expires no later than its CA's."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    builder = _builder(key, subject, ca.subject, days, now, ca.not_valid_after_utc)
    return (
        builder.add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA384())
    )


def key_pem(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """Return the key as PKCS #8, encrypted if there is a passphrase."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def certificate_pem(*certificates: x509.Certificate) -> bytes:
    """Return one or several certificates as PEM, one after the other."""
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def load_key(pem: bytes, passphrase: bytes | None, source: str) -> PrivateKey:
    """Load the CA's key.

    Raises
    ------
    UserError
        The key cannot be read (the error names `source`), or the passphrase is missing or wrong.
    """
    try:
        key = serialization.load_pem_private_key(pem, passphrase if b"ENCRYPTED" in pem else None)
    except TypeError:
        raise UserError(
            f"{source} is encrypted; give its passphrase with --passphrase-file FILE or ${PASSPHRASE}"
        ) from None
    except ValueError:
        raise UserError(f"{source}: the passphrase is wrong, or the file is damaged") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"{source}: not an elliptic-curve key")
    return key


def _builder(
    key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    issuer: x509.Name,
    days: int,
    now: datetime | None,
    latest: datetime | None = None,
) -> x509.CertificateBuilder:
    now = now or datetime.now(UTC)
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(min(end, latest) if latest else end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
