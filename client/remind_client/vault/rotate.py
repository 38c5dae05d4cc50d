"""Encrypt all stored files of a site, for the first time or with a new key. Can be repeated after a crash."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from remind_client.vault.errors import VaultError
from remind_client.vault.key import VaultKey
from remind_client.vault.vault import SealedVault, sealed_with


@dataclass(frozen=True)
class Moved:
    """Result of `rotate` or `seal`: numbers of rewritten files, and of files that needed no change."""

    written: int
    kept: int


def rotate(root: Path, old: VaultKey, new: VaultKey) -> Moved:
    """Encrypt every encrypted file under `root` with the key `new`; unencrypted files do not change.

    Raises
    ------
    VaultError
        A file is damaged, or encrypted with another key. It and the remaining files are unchanged.
    """
    vault = SealedVault(root, [new, old])
    written = kept = 0
    for path in _files(root):
        under = sealed_with(path)
        if under is None or under == new.id:
            kept += 1
            continue
        _rewrite(vault, path)
        written += 1
    return Moved(written, kept)


def seal(root: Path, key: VaultKey) -> Moved:
    """Encrypt every unencrypted file under `root`: files stored before there was a vault."""
    vault = SealedVault(root, [key])
    written = kept = 0
    for path in _files(root):
        if sealed_with(path) is not None:
            kept += 1
            continue
        vault.write(path, lambda out, path=path: out.write(path.read_bytes()))  # type: ignore[misc]
        written += 1
    return Moved(written, kept)


def unreadable(root: Path, key: VaultKey) -> Iterator[str]:
    """Return files under `root` that are unencrypted or use another key, judged by their headers."""
    for path in _files(root):
        under = sealed_with(path)
        if under is None:
            yield f"{path} is not encrypted"
        elif under != key.id:
            yield f"{path} is encrypted with key {under.hex()}"


def is_sealed(root: Path) -> bool:
    """Return whether any file under `root` is encrypted."""
    return any(sealed_with(path) is not None for path in _files(root))


def _rewrite(vault: SealedVault, path: Path) -> None:
    try:
        with vault.open(path) as clear:
            content = clear.read_bytes()
    except OSError as error:
        raise VaultError(f"{path}: cannot be read: {error.strerror}") from None
    vault.write(path, lambda out: out.write(content))


def _files(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.is_file() and not p.name.endswith(".partial"))
