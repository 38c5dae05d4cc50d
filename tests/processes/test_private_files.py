"""Private files: never readable by others, complete or unchanged, and synced to disk."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from remind.processes.private_files import append_private, create_private, private_folder, write_private

ROOT = Path(__file__).parents[2]
OWN = re.compile(r"\.mkdir\((?=[^)]*0o700)(?=[^)]*exist_ok=True)")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _open_to_all():
    """A user whose new files everybody can read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def synced(monkeypatch):
    """What was synced, in order: "file" or "folder"."""
    order, sync = [], os.fsync

    def note(descriptor):
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return order


WRITERS = {
    "write": write_private,
    "stream": lambda path, content: write_private(path, lambda out: out.write(content)),
    "create": create_private,
    "append": append_private,
}


def test_what_need_not_outlive_a_power_cut_is_whole_and_private_without_a_flush(tmp_path, synced):
    path = tmp_path / "state"
    write_private(path, b"old", durable=False)
    write_private(path, lambda out: out.write(b"new"), durable=False)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not synced


@pytest.mark.parametrize("how", WRITERS)
def test_its_owner_alone_reads_it_and_it_is_on_the_disk(how, tmp_path, synced):
    path = tmp_path / "secret"
    WRITERS[how](path, b"content")
    assert (path.read_bytes(), mode(path)) == (b"content", 0o600)
    assert synced == ["file", "folder"]
    assert list(tmp_path.iterdir()) == [path]


def test_nobody_else_reads_what_is_half_written(tmp_path):
    path, modes = tmp_path / "secret", []
    path.write_bytes(b"old")  # of an earlier version that everybody could read
    (tmp_path / "secret.partial").write_bytes(b"left by a kill")

    def write(out):
        modes.extend(mode(one) for one in tmp_path.iterdir() if one != path)
        out.write(b"new")

    write_private(path, write)
    assert (modes, path.read_bytes(), mode(path)) == ([0o600], b"new", 0o600)


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("fails", ["content", "fsync"])
def test_a_failing_write_leaves_everything_as_it_was(before, fails, tmp_path, monkeypatch):
    path = tmp_path / "secret"
    if before:
        path.write_bytes(before)

    def full(*_):
        raise OSError(28, "No space left on device")

    def half(out):
        out.write(b"half")
        full()

    if fails == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_private(path, half if fails == "content" else b"new")
    assert [one.read_bytes() for one in tmp_path.iterdir()] == ([before] if before else [])


def test_a_new_file_is_never_written_over_and_absent_if_it_failed(tmp_path, monkeypatch):
    path = tmp_path / "token"
    create_private(path, b"first")
    with pytest.raises(FileExistsError):
        create_private(path, b"second")
    assert path.read_bytes() == b"first"

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        create_private(tmp_path / "other", b"half")
    assert not (tmp_path / "other").exists()


def test_processes_that_append_at_once_do_not_mix_their_lines(tmp_path):
    path, lines = tmp_path / "log", 20
    code = (
        "import sys; from pathlib import Path; from remind.processes.private_files import append_private\n"
        f"for _ in range({lines}): append_private(Path({str(path)!r}), sys.argv[1].encode() * 3000 + b'\\n')"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, letter]) for letter in "ab"]
    assert [process.wait(60) for process in running] == [0, 0]
    written = path.read_text().splitlines()
    assert sorted(written) == ["a" * 3000] * lines + ["b" * 3000] * lines


def test_private_folders(tmp_path):
    (tmp_path / "there").mkdir(mode=0o755)
    assert mode(private_folder(tmp_path / "there" / "here")) == 0o700
    assert mode(private_folder(tmp_path / "there")) == 0o755, "what somebody else made stays"


def test_nobody_makes_private_folders_in_another_way():
    files = [path for package in ("remind", "server", "client", "studies") for path in (ROOT / package).rglob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in files if OWN.search(path.read_text("utf-8"))] == []
    assert OWN.search("folder.mkdir(mode=0o700, parents=True, exist_ok=True)")
