"""Inspect an app bundle (FAB) in memory, without unpacking it and without importing its code."""

import hashlib
import io
import stat
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath

OURS = "remind_client.app:app"  # the one component a bundle without code may name: installed here, not brought along
MOST_FILES = 1000
MOST_BYTES = 64 << 20  # unpacked
MOST_TOML = 1 << 20
CONFIGURATION = frozenset({".toml", ".md", ".yaml", ".yml", ".json", ".jsonl"})
PLAIN_NAMES = frozenset({"LICENSE", ".info/CONTENT"})


class BundleError(ValueError):
    """The bundle is not valid or looks hostile. The text may leave the site."""


@dataclass(frozen=True)
class Bundle:
    """A bundle after inspection.

    Attributes
    ----------
    sha256
        Hash of its bytes, computed here; the hash that the coordinator states is not trusted.
    app
        ``publisher/name``.
    component
        The ClientApp it names.
    code
        Files in the bundle that are not configuration.
    """

    sha256: str
    app: str
    component: str
    code: tuple[str, ...]

    def not_configuration(self) -> str:
        """Return why this file is more than configuration; empty if it is configuration only."""
        if self.code:
            return f"this one brings {len(self.code)} other file(s), e.g. {self.code[0]}"
        if self.component != OURS:  # any importable name would do for a stranger: os:system, say
            return f"this one names another ClientApp than {OURS}"
        return ""


def look(content: bytes) -> Bundle:
    """Inspect the bundle in these bytes.

    Raises
    ------
    BundleError
        If the bytes are not a bundle, if it is too large unpacked, or if an entry would be unpacked outside its folder.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _require_sane(entries)
            text = _first_bytes(archive, "pyproject.toml")
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"the bundle cannot be read ({type(error).__name__})") from None
    try:
        project = tomllib.loads(text.decode())
        app = project["tool"]["flwr"]["app"]
        name = f"{app['publisher']}/{project['project']['name']}"
        component = str(app["components"]["clientapp"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError("the bundle's pyproject.toml cannot be read as that of a Flower app") from None
    code = tuple(entry.filename for entry in entries if not _is_configuration(entry.filename))
    return Bundle(hashlib.sha256(content).hexdigest(), name, component, code)


def _is_configuration(name: str) -> bool:
    return name in PLAIN_NAMES or PurePosixPath(name).suffix in CONFIGURATION


def _require_sane(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise BundleError(f"the bundle holds more than {MOST_FILES} files or {MOST_BYTES} bytes")
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise BundleError("the bundle holds a file twice")
    for entry in entries:
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.filename:
            raise BundleError("the bundle holds a file outside itself")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise BundleError("the bundle holds a symbolic link")


def _first_bytes(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        text = file.read(MOST_TOML + 1)
    if len(text) > MOST_TOML:
        raise BundleError(f"the bundle's {name} is larger than {MOST_TOML} bytes")
    return text
