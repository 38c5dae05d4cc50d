"""Caches the verdict "this file passed", so that no process decodes the file again.

A verdict holds as long as everything it depends on: the file, the code of its reader, the installed packages, and for
DICOM the available decoders. Only passes are cached. A failure is not, because anything could have repaired it since (a
decoder, a permission, more memory). Paths are stored only as keyed hashes.
"""

import hashlib
import hmac
import json
import os
import secrets
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from typing_extensions import override

from remind.data.files import Sight, decoders
from remind.data.files.pixels import Remark
from remind.processes.private_files import private_folder, write_private
from remind.version import VERSION

SUFFIX = ".verdicts"
MOST = 256  # cohorts cached in a folder; the oldest are removed


class Good(NamedTuple):
    """A file that passed: whether it is DICOM, whose decoders may change, and its properties."""

    dicom: bool
    sight: Sight


class Memory(Protocol):
    """A store for verdicts."""

    def read(self, name: str) -> bytes | None:
        """Return what was written under a name; None if there is nothing, or if it cannot be read."""

    def write(self, name: str, content: bytes) -> None:
        """Write under a name, if possible; otherwise the files are examined again next time."""


class UserMemory(Memory):
    """The user's cache folder: ``$XDG_CACHE_HOME/federated-remind/examined``, readable only by that user."""

    @property
    def folder(self) -> Path:
        """Return the folder of the cache."""
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "federated-remind" / "examined"

    @override
    def read(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return None

    @override
    def write(self, name: str, content: bytes) -> None:
        try:
            write_private(private_folder(self.folder) / name, content)
            for old in self.folder.glob("*.json"):  # written by versions that stored paths unencrypted
                old.unlink(missing_ok=True)
            kept = sorted(self.folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
            for old in kept[:-MOST]:
                old.unlink(missing_ok=True)
        except OSError:  # a read-only container, a full disk
            return


class Verdicts:
    """The verdicts on the files of one modality.

    Parameters
    ----------
    memory
        The store that holds them.
    what
        What the examination depends on: the modality's schema and reading, and the folders of its files.
    """

    def __init__(self, memory: Memory, what: str) -> None:
        self.memory, self.name = memory, hashlib.sha256(what.encode(errors="surrogateescape")).hexdigest()[:32] + SUFFIX
        found = _parsed(memory.read(self.name))
        found = found if found.get("surroundings") == environment_digest() else {}
        self._key = bytes.fromhex(found["key"]) if found else secrets.token_bytes(32)
        self._known: dict[str, Any] = found.get("files", {})
        self._decoders: str | None = found.get("decoders")

    def find(self, path: Path, stamp: str) -> Good | None:
        """Return the verdict on a file that passed and has not changed; None if it must be examined."""
        entry = self._known.get(self._hidden(path))
        if not stamp or entry is None or entry["stamp"] != stamp:
            return None
        if entry["dicom"] and self._decoders != _digest(decoders()):
            return None
        return Good(entry["dicom"], _sight(entry["sight"]))

    def keep(self, good: Mapping[Path, Good], stamps: Mapping[Path, str]) -> None:
        """Replace the stored verdicts by those of these files. Take the stamps before opening the files."""
        files = {
            self._hidden(path): {"stamp": stamps[path], "dicom": one.dicom, "sight": _as_json(one.sight)}
            for path, one in good.items()
            if stamps[path]
        }
        at_hand = _digest(decoders()) if any(entry["dicom"] for entry in files.values()) else None
        content = {"surroundings": environment_digest(), "decoders": at_hand, "key": self._key.hex(), "files": files}
        self.memory.write(self.name, json.dumps(content).encode())

    def _hidden(self, path: Path) -> str:
        return hmac.digest(self._key, os.fsencode(path.absolute()), "sha256").hex()[:32]


def environment_digest() -> str:
    """Return a digest of what a verdict depends on besides the file: reader code, Python, installed packages.

    A package counts as installed if `sys.path` holds its distribution; version and time are hashed, because any
    package may bring a decoder.
    """
    installed = []
    for entry in dict.fromkeys(sys.path):
        try:
            with os.scandir(entry or ".") as inside:
                found = [one for one in inside if one.name.endswith((".dist-info", ".egg-info"))]
                installed += [f"{one.name} {one.stat().st_mtime_ns}" for one in found]
        except OSError:  # a zip file, or a folder that does not exist
            continue
    return _digest("\0".join([VERSION, sys.version, readers_code(), *sorted(installed)]))


@cache
def readers_code() -> str:
    """Return a digest of the code that turns a file into an array."""
    here = Path(__file__).parent
    sources = [here / "examine.py", Path(__file__), *sorted((here / "kinds").glob("*.py"))]
    sources += sorted((here.parent / "files").glob("*.py"))
    return _digest("\0".join(path.read_text("utf-8") for path in sources if path.is_file()))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _parsed(content: bytes | None) -> dict[str, Any]:
    """Parse the content of a store; None if it is damaged."""
    try:
        found = json.loads(content or b"{}")
        bytes.fromhex(found["key"])
        for entry in found["files"].values():
            entry["stamp"], entry["dicom"], _sight(entry["sight"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
    return dict(found)


def _as_json(sight: Sight) -> list[Any]:
    return [sight.shape, sight.flat, sight.orientation, sight.scale, sight.remarks]


def _sight(found: Any) -> Sight:
    (depth, rows, columns), flat, orientation, scale, remarks = found
    return Sight((depth, rows, columns), flat, orientation, scale, tuple(Remark(kind, seen) for kind, seen in remarks))
