"""Key derivation: HKDF with SHA-256 (RFC 5869). The info names the purpose of a key and everything it depends on."""

import hashlib
import json

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PROTOCOL = "federated-remind secure aggregation 1"
Info = str | int


def derive(secret: bytes, purpose: str, *info: Info, length: int = 32) -> bytes:
    """Derive `length` bytes from a secret. Nobody can compute them without it; each purpose and info has its own."""
    return HKDF(hashes.SHA256(), length, salt=None, info=_joined(purpose, *info)).derive(secret)


def digest(purpose: str, *info: Info) -> str:
    """Return the SHA-256 (hex) of public values. The encoding as a JSON list is unambiguous."""
    return hashlib.sha256(_joined(purpose, *info)).hexdigest()


def _joined(*info: Info) -> bytes:
    return json.dumps([PROTOCOL, *info], ensure_ascii=True).encode()
