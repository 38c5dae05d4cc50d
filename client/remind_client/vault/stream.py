"""Authenticated encryption of a file in chunks: the STREAM construction over AES-256-GCM.

    file   = magic ‖ key id ‖ salt ‖ prefix ‖ chunk_0 ‖ … ‖ chunk_last
    key_f  = HKDF-SHA256(vault key, salt)                     one key per file: 256 random bits of salt
    nonce  = prefix ‖ index ‖ last?                           7 + 4 + 1 bytes: no nonce occurs twice under key_f
    chunk  = AES-256-GCM(key_f, nonce, plain, associated = header ‖ index ‖ last? ‖ logical name)

Plain chunks are `CHUNK` bytes, the last one 0 … CHUNK. The index binds a chunk to its place, the flag to being the
last, the name to its file: chunks that are changed, swapped, cut off, added, or a file under another file's name, do
not decrypt. (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance, 2015, §7.)
"""

import os
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from remind_client.vault.errors import VaultError
from remind_client.vault.key import KEY_BYTES, VaultKey

MAGIC = b"REMINDV1"
CHUNK = 1 << 20  # bytes of plain text
TAG = 16
_HEADER = struct.Struct(">8s8s32s7s")  # magic, key id, salt, nonce prefix
HEADER_BYTES = _HEADER.size
_PLACE = struct.Struct(">IB")  # index, last?
_MOST_CHUNKS = 2**32


class Sealer:
    """A writable file object that encrypts into `target`. The caller must call `finish` at the end.

    There is no ``close``, and deleting the object has no effect: the garbage collector must not complete a file whose
    writing failed.
    """

    def __init__(self, target: BinaryIO, key: VaultKey, name: str) -> None:
        salt, prefix = os.urandom(32), os.urandom(7)
        self._target, self._name, self._prefix = target, name.encode(), prefix
        self._header = _HEADER.pack(MAGIC, key.id, salt, prefix)
        self._cipher = _cipher(key, salt)
        self._index = 0
        self._held = bytearray()
        target.write(self._header)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt data; return its length."""
        view = memoryview(data).cast("B")
        self._held += view
        while len(self._held) > CHUNK:  # a full chunk may still be the last one
            self._emit(bytes(self._held[:CHUNK]), last=False)
            del self._held[:CHUNK]
        return len(view)

    def flush(self) -> None:
        """Do nothing: a chunk can be written only when it is known whether it is the last. Writers call this anyway."""

    def finish(self) -> None:
        """Write the last chunk."""
        self._emit(bytes(self._held), last=True)
        self._held.clear()

    def _emit(self, plain: bytes, *, last: bool) -> None:
        if self._index >= _MOST_CHUNKS:
            raise VaultError(f"a vault file holds at most {_MOST_CHUNKS * CHUNK} bytes")
        place = _PLACE.pack(self._index, last)
        self._target.write(self._cipher.encrypt(self._prefix + place, plain, self._header + place + self._name))
        self._index += 1


def opened(source: BinaryIO, keys: Iterable[VaultKey], name: str, shown: str) -> Iterator[bytes]:
    """Yield the decrypted chunks of a file. Until the last one has arrived, the file may turn out to be truncated.

    Parameters
    ----------
    source
        The file, from its start.
    keys
        Keys to choose from, by the key id in the header.
    name
        Logical name under which the file was written.
    shown
        Name of the file in error messages.

    Raises
    ------
    VaultError
        The file is not encrypted, its key is missing, or it is not what was written under this name.
    """
    header = source.read(HEADER_BYTES)
    key = _key_of(header, keys, shown)
    _, _, salt, prefix = _HEADER.unpack(header)
    cipher = _cipher(key, salt)
    current, index = source.read(CHUNK + TAG), 0
    while True:
        following = source.read(CHUNK + TAG)
        place = _PLACE.pack(index, not following)
        try:
            yield cipher.decrypt(prefix + place, current, header + place + name.encode())
        except InvalidTag:
            raise VaultError(
                f"{shown}: not what this site wrote: the file was changed, truncated, or moved here; "
                "restore it, or remove it so that the site restarts that run"
            ) from None
        if not following:
            return
        current, index = following, index + 1


def sealed_size(plain: int) -> int:
    """Return the size of the encrypted file of `plain` bytes."""
    return HEADER_BYTES + plain + TAG * max(1, -(-plain // CHUNK))


def key_id(header: bytes) -> bytes | None:
    """Return the key id of an encrypted file, from its first bytes; None if it is not encrypted."""
    return _HEADER.unpack(header)[1] if len(header) == HEADER_BYTES and header.startswith(MAGIC) else None


def _key_of(header: bytes, keys: Iterable[VaultKey], shown: str) -> VaultKey:
    wanted = key_id(header)
    if wanted is None:
        raise VaultError(
            f"{shown}: not an encrypted file, or truncated; to encrypt files of earlier runs: remind-site vault seal"
        )
    for key in keys:
        if key.id == wanted:
            return key
    raise VaultError(
        f"{shown}: encrypted with key {wanted.hex()}, which this site does not have; set vault.key_file to that key"
    )


def _cipher(key: VaultKey, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(hashes.SHA256(), KEY_BYTES, salt, b"remind vault file").derive(key.secret))
