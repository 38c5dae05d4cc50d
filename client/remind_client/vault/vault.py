"""One interface to write and read a site's files: encrypted, or unencrypted if no vault is configured.

Files are complete or absent (`remind.processes.private_files.write_private`); an encrypted file is returned only after
every byte of it has been authenticated.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from typing_extensions import override

from remind.disk import named
from remind.processes.private_files import write_private
from remind.site_files import VERSION
from remind_client.vault.key import VaultKey
from remind_client.vault.stream import HEADER_BYTES, Sealer, key_id, opened

Writer = Callable[[Any], object]  # given something with `write(bytes)`


class Vault(Protocol):
    """Interface of `SealedVault` and `PlainVault`."""

    @property
    def durable(self) -> bool:
        """Whether what was written is on the disk, so that it outlives a power cut."""

    def write(self, path: Path, writer: Writer) -> None:
        """Create or replace a file atomically with what `writer` writes into the given file object."""

    def read(self, path: Path) -> bytes:
        """Return the content of a file."""

    def open(self, path: Path) -> AbstractContextManager[Path]:
        """Return a path from which the content can be read or memory-mapped; a mapping outlives the context."""


class _Noting:
    """Forwards writes and stores an OSError, because torch reports a full disk as a RuntimeError."""

    def __init__(self, out: Any) -> None:
        self._out = out
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return int(self._out.write(data))
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Flush the file."""
        self._out.flush()


def _written(path: Path, write: Callable[[BinaryIO], object], durable: bool = True) -> None:
    """Call `write_private`, and add the file's name to an OSError."""
    try:
        write_private(path, write, durable=durable)
    except OSError as error:
        raise named(error, path) from None


def _let_write(writer: Writer, out: Any) -> None:
    noting = _Noting(out)
    try:
        writer(noting)
    except Exception as error:
        if noting.error is not None and not isinstance(error, OSError):
            raise noting.error from None
        raise


@dataclass(frozen=True)
class PlainVault(Vault):
    """Unencrypted files.

    Attributes
    ----------
    durable
        False at a virtual hospital: flushing every file of a thousand hospitals in every round takes longer than their
        training.
    """

    durable: bool = True

    @override
    def write(self, path: Path, writer: Writer) -> None:
        _written(path, lambda out: _let_write(writer, out), self.durable)

    @override
    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    @override
    @contextmanager
    def open(self, path: Path) -> Iterator[Path]:
        yield path


@dataclass(frozen=True)
class SealedVault(Vault):
    """Encrypted files under a folder; a file's logical name is its path from there.

    ``state.pt~7`` is a version of ``state.pt`` and has its logical name, so that one can become the other by a link.

    Attributes
    ----------
    root
        The folder. A file that is moved within it, or out of it, no longer opens.
    keys
        The first encrypts; all decrypt (there are two while keys are rotated).
    """

    root: Path
    keys: Sequence[VaultKey]

    @property
    @override
    def durable(self) -> bool:
        return True

    @override
    def write(self, path: Path, writer: Writer) -> None:
        """Encrypt a file; the plain text is never on the disk."""
        name = self._name(path)

        def write(out: BinaryIO) -> None:
            sealer = Sealer(out, self.keys[0], name)
            _let_write(writer, sealer)
            sealer.finish()

        _written(path, write)

    @override
    def read(self, path: Path) -> bytes:
        """Return the content of a file, after authentication of every byte.

        Raises
        ------
        VaultError
            If the file is not what was written to this path under one of the keys.
        """
        return b"".join(self._chunks(path))

    @override
    @contextmanager
    def open(self, path: Path) -> Iterator[Path]:
        """Provide the content in an unnamed file in memory, which exists until its last user closes it.

        It counts as the process's memory, and can be swapped out: encrypt the swap, or have none.

        Raises
        ------
        VaultError
            As for `read`, before anything of the content can be seen.
        """
        with os.fdopen(os.memfd_create("vault"), "r+b") as clear:
            for chunk in self._chunks(path):
                clear.write(chunk)
            clear.flush()
            yield Path(f"/proc/self/fd/{clear.fileno()}")

    def _chunks(self, path: Path) -> Iterator[bytes]:
        with path.open("rb") as source:
            yield from opened(source, self.keys, self._name(path), str(path))

    def _name(self, path: Path) -> str:
        place = path.resolve().relative_to(self.root.resolve())
        return place.with_name(place.name.partition(VERSION)[0]).as_posix()


def sealed_with(path: Path) -> bytes | None:
    """Return the id of the key with which a file is encrypted; None for an unencrypted file."""
    with path.open("rb") as source:
        return key_id(source.read(HEADER_BYTES))
