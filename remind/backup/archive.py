"""Backup of a folder in one file: of a consortium, a hospital's site, or results; also while programs use it.

The file is a compressed tar archive. SQLite databases are copied by SQLite itself, so that each is whole although
somebody writes to it; every other file is read at once, because this project replaces or appends to files and never
changes them in place. The last entry, `MANIFEST`, has the SHA-256 of all others. A backup holds what the folder holds:
keys and numbers of patients.
"""

import contextlib
import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from remind.errors import UserError
from remind.files import whole
from remind.processes.private_files import private_folder
from remind.version import VERSION

MANIFEST = "remind-backup.json"
PASSING = ("run",)  # folders directly below that are written again at every start
_SQLITE, _BESIDE, _LOCK, _PARTIAL = b"SQLite format 3\0", ("-wal", "-shm", "-journal"), ".lock", ".partial"


def write_backup(folder: Path, file: Path) -> int:
    """Write a backup of the folder; return the number of its files.

    Raises
    ------
    UserError
        The folder cannot be read, the file is in it or is there already, or cannot be written.
    """
    folder, file = folder.absolute(), file.absolute()
    if not folder.is_dir():
        raise UserError(
            f"{folder}: is a file, not a folder" if folder.exists() else f"{folder}: there is no such folder"
        )
    if (folder / MANIFEST).exists():
        raise UserError(f"{folder / MANIFEST}: has the name of a backup's own list of files; rename it first")
    if file.is_relative_to(folder):
        raise UserError(f"{file}: a backup in the folder would contain itself; give a file elsewhere, on another disk")
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}; make it first, or give another place")
    if file.exists():
        raise UserError(f"{file}: is there already; give another name")
    digests: dict[str, str] = {}
    try:
        with whole(file, private=True, durable=True) as partial, tarfile.open(partial, "w:gz") as archive:
            for path in _files(folder):
                name = path.relative_to(folder).as_posix()
                with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile, such as an old checkpoint
                    digests[name] = _add(archive, name, path)
            if not digests:
                raise UserError(f"{folder}: holds nothing to back up; is it the right folder, and its disk mounted?")
            manifest = {"made-by": VERSION, "folder": folder.name, "files": digests}
            _put(archive, MANIFEST, json.dumps(manifest).encode(), 0o600)
    except (OSError, sqlite3.Error) as error:
        raise UserError(f"{file}: the backup was not made: {_reason(error)}") from None
    return len(digests)


def restore_backup(file: Path, folder: Path) -> int:
    """Restore a backup into a new or empty folder, all of it or nothing; return the number of its files.

    Raises
    ------
    UserError
        The file is no backup or is damaged, or the folder holds something.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: holds something already; restore into a new folder, and move it when it is right")
    new = [parent for parent in folder.parents if not parent.exists()]
    try:
        file.open("rb").close()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
            number = _unpack(file, Path(made) / "all")
            if folder.exists():
                folder.rmdir()
            os.replace(Path(made) / "all", folder)
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise UserError(f"{file}: is damaged, or no backup ({error}); nothing was restored") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be restored to {folder}: {_reason(error)}; nothing was restored") from None
    finally:
        for parent in new:  # those that this call made; they stay if they hold what was restored
            with contextlib.suppress(OSError):
                parent.rmdir()
    return number


def links(folder: Path) -> list[str]:
    """Return the symbolic links of a folder, which its backup leaves out: what they point to is elsewhere."""
    found = (Path(root) / name for root, folders, names in os.walk(folder) for name in folders + names)
    return sorted(path.relative_to(folder).as_posix() for path in found if path.is_symlink())


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files to keep, in order; links, sockets and what others lock or are writing are left out."""
    for root, folders, names in os.walk(folder, onerror=_unreadable):
        here = Path(root)
        folders[:] = sorted(name for name in folders if here != folder or name not in PASSING)
        for name in sorted(names):
            path = here / name
            if path.is_symlink() or not path.is_file() or name.endswith((_LOCK, _PARTIAL)):
                continue
            database = next((name.removesuffix(end) for end in _BESIDE if name.endswith(end)), None)
            if database is None or not _is_database(here / database):
                yield path


def _unreadable(error: OSError) -> None:
    """Refuse a folder that cannot be read, which os.walk would leave out; one that was removed meanwhile is no loss."""
    if not isinstance(error, FileNotFoundError):
        raise UserError(f"{error.filename}: the backup was not made: {_reason(error)}") from None


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def _add(archive: tarfile.TarFile, name: str, path: Path) -> str:
    """Add a file; return its SHA-256."""
    mode = path.stat().st_mode & 0o777
    if not _is_database(path):
        return _put(archive, name, path.read_bytes(), mode)
    with tempfile.TemporaryDirectory() as made:
        copy = Path(made) / "copy.db"
        with (
            contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        return _put(archive, name, copy.read_bytes(), mode)


def _put(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> str:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
    return hashlib.sha256(content).hexdigest()


def _unpack(file: Path, folder: Path) -> int:
    """Write the content of a backup to a new folder, after a comparison of every digest."""
    found: dict[str, str] = {}
    manifest = None
    folder.mkdir(mode=0o700)
    with tarfile.open(file, "r:gz") as archive:
        for entry in archive:
            content = archive.extractfile(entry) if entry.isfile() else None
            place = PurePosixPath(entry.name)
            if content is None or place.is_absolute() or ".." in place.parts:
                raise tarfile.TarError(f"{entry.name!r} does not belong into a backup")
            data = content.read()
            if entry.name == MANIFEST:
                manifest = json.loads(data)
                continue
            found[entry.name] = hashlib.sha256(data).hexdigest()
            target = folder / place
            private_folder(target.parent)
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, entry.mode & 0o777), "wb") as out:
                out.write(data)
                os.fsync(out.fileno())
    if not isinstance(manifest, dict) or manifest.get("files") != found:
        raise tarfile.TarError("its files are not those that it lists")
    return len(found)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
