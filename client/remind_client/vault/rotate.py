"""Moving everything a site keeps under a new key, or out of the clear. Killed half-way, it can be run again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from remind_client.vault.errors import VaultError
from remind_client.vault.key import VaultKey
from remind_client.vault.vault import SealedVault, sealed_with


@dataclass(frozen=True)
class Moved:
    """What `rotate` or `seal` did: files written anew, and files that were as wanted already."""

    written: int
    kept: int


def rotate(root: Path, old: VaultKey, new: VaultKey) -> Moved:
    """Write every encrypted file under `root` anew under `new`; files in clear are left alone.

    Raises
    ------
    VaultError
        If a file is under neither key or damaged. It and those not reached yet are as they were.
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
    """Encrypt every file under `root` that lies in clear: what was kept before there was a vault."""
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
    """Files under `root` that are in clear or under another key, by their headers alone."""
    for path in _files(root):
        under = sealed_with(path)
        if under is None:
            yield f"{path} lies in clear"
        elif under != key.id:
            yield f"{path} is under key {under.hex()}"


def is_sealed(root: Path) -> bool:
    """Whether any file under `root` is encrypted."""
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
