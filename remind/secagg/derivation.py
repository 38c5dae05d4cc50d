"""Keys from secrets: HKDF with SHA-256 (RFC 5869). What a key is for, and all it depends on, is in its info."""

import hashlib
import json

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PROTOCOL = "federated-remind secure aggregation 1"
Info = str | int


def derived(secret: bytes, purpose: str, *info: Info, length: int = 32) -> bytes:
    """Return `length` bytes that nobody can compute without the secret; another purpose or info gives other bytes."""
    return HKDF(hashes.SHA256(), length, salt=None, info=_joined(purpose, *info)).derive(secret)


def digest(purpose: str, *info: Info) -> str:
    """SHA-256 (hex) of public values, unambiguous as a list."""
    return hashlib.sha256(_joined(purpose, *info)).hexdigest()


def _joined(*info: Info) -> bytes:
    return json.dumps([PROTOCOL, *info], ensure_ascii=True).encode()
