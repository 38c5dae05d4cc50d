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
REMEDY = "make one with: remind-site vault key FILE"


@dataclass(frozen=True)
class VaultKey:
    """A key and its name. The name is a hash of the key, so it may stand in clear in every file."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a vault key has {KEY_BYTES} bytes, not {len(self.secret)}")

    @property
    def id(self) -> bytes:
        """First eight bytes of a hash of the key: tells keys apart, tells nothing of the key."""
        return hashlib.sha256(b"remind vault key id\0" + self.secret).digest()[:8]


def parse_key(text: str, source: str) -> VaultKey:
    """The key that a text holds: 64 hexadecimal digits, or the base64 of 32 bytes.

    Raises
    ------
    UserError
        If it holds neither. The text is not repeated: it may be half a secret.
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
    """The key in a file.

    Raises
    ------
    UserError
        If it cannot be read, holds no key, or everybody on the machine can read it.
    """
    try:
        text = path.read_text("ascii")
        mode = path.stat().st_mode
    except OSError as error:
        raise UserError(f"{path}: cannot read the vault key: {error.strerror}; {REMEDY}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: no vault key: not ASCII; {REMEDY}") from None
    if mode & 0o007:
        raise UserError(f"{path}: everybody on this machine can read the vault key; chmod 600 {path}")
    return parse_key(text, str(path))


def key_from_environment(variable: str) -> VaultKey:
    """The key in an environment variable.

    Raises
    ------
    UserError
        If the variable is not set or holds no key.
    """
    if (text := os.environ.get(variable)) is None:
        raise UserError(f"vault.key_env: the environment variable {variable} is not set; put the vault key into it")
    return parse_key(text, f"environment variable {variable}")


def new_key_file(path: Path) -> VaultKey:
    """Make a key and write it to a new file that its owner alone can read.

    Raises
    ------
    UserError
        If the file is there already: a key that was written over is data that is lost.
    """
    if path.exists():
        raise UserError(f"{path}: exists; a vault key is never written over: name another file")
    key = VaultKey(secrets.token_bytes(KEY_BYTES))
    try:
        private_folder(path.parent)
        write_private(path, f"{key.secret.hex()}\n".encode())
    except OSError as error:
        raise UserError(f"{path}: cannot write the vault key: {error.strerror}") from None
    return key
