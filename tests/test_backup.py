"""Backups of a folder that is in use, and what is restored from them."""

import contextlib
import io
import os
import sqlite3
import tarfile

import pytest
from typer.testing import CliRunner

from remind.backup.archive import MANIFEST, restore_backup, write_backup
from remind.cli import app
from remind.errors import UserError
from remind_server.consortium.folder import Folder
from remind_server.consortium.make import make
from remind_server.dashboard.reader import Reader
from remind_server.store.open import open_store, store_url
from tests.builders.stored_runs import Drill

SITES = {"Basel": {1: 30, 3: 20}, "Chur": {3: 10}}


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def consortium(tmp_path):
    folder = make(tmp_path / "heart", "heart", ["localhost"], 18443, "", None, 100, 30)
    (folder.root / "run").mkdir(exist_ok=True)
    (folder.root / "run" / "pids.json").write_text("{}")
    (folder.root / ".serve.lock").touch()
    return folder


def test_a_consortium_comes_back_with_keys_and_modes(consortium, tmp_path):
    done = CliRunner().invoke(app, ["backup", str(consortium.root), str(tmp_path / "heart.tar.gz")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "heart.tar.gz").stat().st_mode & 0o777 == 0o600
    back = tmp_path / "elsewhere" / "heart"
    done = CliRunner().invoke(app, ["restore", str(tmp_path / "heart.tar.gz"), str(back)])
    assert done.exit_code == 0, done.output
    before = content(consortium.root)
    kept = {name: data for name, data in before.items() if not name.startswith("run/") and not name.endswith(".lock")}
    assert content(back) == kept
    assert "ca/ca.key" in kept
    assert (back / "ca" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert Folder(back).settings == consortium.settings


def test_a_database_in_use_is_whole(tmp_path):
    """What is committed is in the copy although it is in the write-ahead log alone; what is not is not."""
    folder = tmp_path / "state"
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / "a.db", isolation_level=None)) as db:
        db.execute("pragma journal_mode=wal")
        db.execute("pragma wal_autocheckpoint=0")
        db.execute("create table t (x)")
        db.executemany("insert into t values (?)", [(i,) for i in range(100)])
        assert (folder / "a.db-wal").stat().st_size > 0
        db.execute("begin immediate")
        db.execute("insert into t values (-1)")
        assert write_backup(folder, tmp_path / "b") == 1
        db.execute("rollback")
    restore_backup(tmp_path / "b", tmp_path / "back")
    with contextlib.closing(sqlite3.connect(tmp_path / "back" / "a.db")) as db:
        assert db.execute("select count(*), min(x) from t").fetchone() == (100, 0)


def test_results_under_way_come_back_with_their_runs(tmp_path):
    engine = open_store(store_url(tmp_path / "results"))
    try:
        Drill(engine, tmp_path / "results" / "run", SITES).start().round()
        write_backup(tmp_path / "results", tmp_path / "results.tar.gz")  # the run has not ended
        restore_backup(tmp_path / "results.tar.gz", tmp_path / "again")
        assert [run.round for run in Reader(open_store(store_url(tmp_path / "again"))).runs()] == [1]
    finally:
        Drill.end_all()
        engine.dispose()


def damaged(path, what):
    data = bytearray(path.read_bytes())
    if what == "cut":
        data = data[: len(data) // 2]
    elif what == "flipped":
        data[len(data) // 2] ^= 0x10
    elif what == "other":
        data = bytearray(b"hello")
    else:
        data = bytearray()
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("what", ["cut", "flipped", "other", "empty"])
def test_a_damaged_backup_restores_nothing(what, tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.bin").write_bytes(os.urandom(4000))
    write_backup(tmp_path / "f", tmp_path / "b")
    damaged(tmp_path / "b", what)
    with pytest.raises(UserError, match="nothing was restored"):
        restore_backup(tmp_path / "b", tmp_path / "back")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "f"]


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside"])
def test_a_foreign_archive_writes_nothing_outside(name, tmp_path):
    with tarfile.open(tmp_path / "b", "w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(UserError, match="does not belong into a backup"):
        restore_backup(tmp_path / "b", tmp_path / "back")
    assert not (tmp_path / "outside").exists()


def test_what_would_be_a_mistake_is_refused(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_text("a")
    with pytest.raises(UserError, match="contain itself"):
        write_backup(tmp_path / "f", tmp_path / "f" / "b")
    with pytest.raises(UserError, match="no such folder"):
        write_backup(tmp_path / "none", tmp_path / "b")
    write_backup(tmp_path / "f", tmp_path / "b")
    with pytest.raises(UserError, match="nowhere; make it first"):
        write_backup(tmp_path / "f", tmp_path / "nowhere" / "backup.tar.gz")
    with pytest.raises(UserError, match="is there already"):
        write_backup(tmp_path / "f", tmp_path / "b")
    with pytest.raises(UserError, match="holds something already"):
        restore_backup(tmp_path / "b", tmp_path / "f")
    with pytest.raises(UserError, match="cannot be restored"):
        restore_backup(tmp_path / "none", tmp_path / "back")
    with tarfile.open(tmp_path / "b") as archive:
        assert archive.getnames() == ["a", MANIFEST]


def test_an_empty_folder_or_a_file_is_no_backup(tmp_path):
    """An empty folder is mostly a disk that is not mounted."""
    (tmp_path / "f").mkdir()
    with pytest.raises(UserError, match="nothing to back up"):
        write_backup(tmp_path / "f", tmp_path / "b")
    (tmp_path / "f" / "a").write_text("a")
    with pytest.raises(UserError, match="is a file, not a folder"):
        write_backup(tmp_path / "f" / "a", tmp_path / "b")
    (tmp_path / "f" / MANIFEST).write_text("{}")
    with pytest.raises(UserError, match="rename it"):
        write_backup(tmp_path / "f", tmp_path / "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f"]


def test_a_folder_that_cannot_be_read_is_not_left_out_in_silence(tmp_path, monkeypatch):
    (tmp_path / "f" / "keys").mkdir(parents=True)
    (tmp_path / "f" / "a").write_text("a")
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("keys"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", denied)
        with pytest.raises(UserError, match=r"keys: the backup was not made: Permission denied"):
            write_backup(tmp_path / "f", tmp_path / "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f"]


def test_links_are_named_as_left_out(tmp_path):
    (tmp_path / "f" / "deep").mkdir(parents=True)
    (tmp_path / "f" / "a").write_text("a")
    (tmp_path / "f" / "deep" / "patients").symlink_to(tmp_path, target_is_directory=True)
    done = CliRunner().invoke(app, ["backup", str(tmp_path / "f"), str(tmp_path / "b")])
    assert done.exit_code == 0
    assert "links to other places: deep/patients;" in done.output


@pytest.mark.parametrize("listed", [b"no JSON", b"\xff\xfe"])
def test_a_list_that_is_no_json_is_damage_and_leaves_no_folders(listed, tmp_path):
    with tarfile.open(tmp_path / "b", "w:gz") as archive:
        entry = tarfile.TarInfo(MANIFEST)
        entry.size = len(listed)
        archive.addfile(entry, io.BytesIO(listed))
    with pytest.raises(UserError, match="is damaged, or no backup"):
        restore_backup(tmp_path / "b", tmp_path / "new" / "deep" / "back")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]
