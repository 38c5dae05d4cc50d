"""Vault keys: 256 random bits, from a file (a mounted secret is one) or an environment variable."""

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from remind.errors import UserError
from remind.processes.private_files import private_folder, write_private

KEY_BYTES = 32
REMEDY = "create one with: remind-site vault key FILE"


@dataclass(frozen=True)
class VaultKey:
    """A key and its id. The id is a hash of the key, so every file may contain it unencrypted."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a vault key has {KEY_BYTES} bytes, not {len(self.secret)}")

    @property
    def id(self) -> bytes:
        """Return the first eight bytes of a hash of the key: it identifies the key and reveals nothing about it."""
        return hashlib.sha256(b"remind vault key id\0" + self.secret).digest()[:8]


def parse_key(text: str, source: str) -> VaultKey:
    """Parse a key: 64 hexadecimal digits, or the base64 of 32 bytes.

    Raises
    ------
    UserError
        The text is neither. The error does not quote it, because it may be part of a secret.
    """
    stripped = text.strip()
    try:
        secret = (
            bytes.fromhex(stripped) if len(stripped) == 2 * KEY_BYTES else base64.b64decode(stripped, validate=True)
        )
    except (ValueError, binascii.Error):
        secret = b""
    if len(secret) != KEY_BYTES:
        raise UserError(f"{source}: no vault key (64 hexadecimal digits, or the base64 of {KEY_BYTES} bytes); {REMEDY}")
    return VaultKey(secret)


def key_from_file(path: Path) -> VaultKey:
    """Read the key from a file.

    Raises
    ------
    UserError
        The file cannot be read, contains no key, or all users of the machine can read it.
    """
    try:
        text = path.read_text("ascii")
        mode = path.stat().st_mode
    except OSError as error:
        raise UserError(f"{path}: cannot read the vault key: {error.strerror}; {REMEDY}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: no vault key: not ASCII; {REMEDY}") from None
    if mode & 0o007:
        raise UserError(f"{path}: all users of this machine can read the vault key; chmod 600 {path}")
    return parse_key(text, str(path))


def key_from_environment(variable: str) -> VaultKey:
    """Read the key from an environment variable.

    Raises
    ------
    UserError
        The variable is not set or contains no key.
    """
    if (text := os.environ.get(variable)) is None:
        raise UserError(f"vault.key_env: the environment variable {variable} is not set; put the vault key into it")
    return parse_key(text, f"environment variable {variable}")


def new_key_file(path: Path) -> VaultKey:
    """Create a key and write it to a new file that only its owner can read.

    Raises
    ------
    UserError
        The file exists: overwriting a key would make its data unreadable.
    """
    if path.exists():
        raise UserError(f"{path}: exists; a vault key is never overwritten: choose another file")
    key = VaultKey(secrets.token_bytes(KEY_BYTES))
    try:
        private_folder(path.parent)
        write_private(path, f"{key.secret.hex()}\n".encode())
    except OSError as error:
        raise UserError(f"{path}: cannot write the vault key: {error.strerror}") from None
    return key
