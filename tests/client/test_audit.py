"""The audit log: every later change is detected, and a crash is distinguished from a forgery as far as possible."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from remind.errors import UserError
from remind_client.audit.chain import GENESIS, Head, canonical, parse, sealed
from remind_client.audit.events import Answered, Asked, PolicyChanged, Refused, SentTensor, Started, Stopped
from remind_client.audit.log import AuditLog, segments
from remind_client.audit.show import to_text
from remind_client.audit.verify import verify

DIGEST = "ab" * 32
EVENTS = [
    Started(site="north", version="1", policy=DIGEST),
    PolicyChanged(before="", after=DIGEST),
    Asked(run="18446744073709551615", request="train", round=0, app="a/b", bundle=DIGEST),
    Answered(
        run="1",
        request="train",
        round=0,
        answer="Report",
        tensors=(SentTensor(name="fusion.head.weight", bytes=64),),
        groups={"train": {3: 20, 5: 11}, "validation": {}},
    ),
    Refused(run="1", request="evaluate", reason="no\x1b[31m\nreally é"),
    Stopped(reason="SIGTERM"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    log = AuditLog(tmp_path_factory.mktemp("audit"))
    for event in EVENTS:
        log.append(event)
    return log.folder


def copy(folder: Path, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    for path in segments(folder):
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_a_log_as_written_is_whole(written):
    verdict = verify(written)
    assert verdict.ok, verdict.problems
    assert verdict.entries == len(EVENTS)
    entries = list(AuditLog(written).entries())
    assert [e["sequence"] for e in entries] == list(range(len(EVENTS)))
    assert entries[0]["previous"] == GENESIS
    assert [e["previous"] for e in entries[1:]] == [e["hash"] for e in entries[:-1]]
    assert all("\x1b" not in to_text(e) and "\n" not in to_text(e) for e in entries)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_bit_is_seen(written, tmp_path, data):
    folder = copy(written, tmp_path / "copy")
    [path] = segments(folder)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    assert not verify(folder).ok


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_lines_taken_out_put_in_or_swapped_are_seen(written, tmp_path, data):
    folder = copy(written, tmp_path / "copy")
    [path] = segments(folder)
    lines = path.read_bytes().splitlines(keepends=True)
    i = data.draw(st.integers(0, len(lines) - 2))  # the last line's going cannot be seen: below
    change = data.draw(st.sampled_from(["take", "double", "swap"]))
    if change == "take":
        del lines[i]
    elif change == "double":
        lines.insert(i, lines[i])
    else:
        lines[i], lines[i + 1] = lines[i + 1], lines[i]
    path.write_bytes(b"".join(lines))
    verdict = verify(folder)
    taken_from_the_front = change == "take" and i == 0
    assert verdict.ok == taken_from_the_front
    assert not taken_from_the_front or any("not the beginning" in note for note in verdict.notes)


def test_a_tail_that_was_cut_is_seen_only_with_a_head_noted_elsewhere(written, tmp_path):
    folder = copy(written, tmp_path / "copy")
    noted = verify(folder).head
    assert noted is not None
    [path] = segments(folder)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert verify(folder).ok
    assert any("cut off its end" in note for note in verify(folder).notes)
    assert not verify(folder, noted).ok
    # a forged log that mentions the noted hash in its words does not help either
    AuditLog(folder).append(Refused(run="1", request="x", reason=noted.hash))
    assert not verify(folder, noted).ok
    assert verify(written, noted).ok


def test_the_chain_goes_on_through_rotation(tmp_path):
    log = AuditLog(tmp_path / "log", rotate_bytes=600)
    for _ in range(4):
        for event in EVENTS:
            log.append(event)
    files = segments(log.folder)
    assert len(files) > 3
    assert verify(log.folder).ok
    first = json.loads(files[1].read_bytes().splitlines()[0])
    assert first["event"] == "rotated"
    files[0].unlink()
    assert verify(log.folder).ok, "old files may be archived elsewhere"
    assert any("not the beginning" in note for note in verify(log.folder).notes)
    files[2].unlink()
    assert not verify(log.folder).ok, "a file from the middle may not"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 150))
def test_a_crash_while_writing_is_found_set_aside_and_said(written, tmp_path, cut):
    folder = copy(written, tmp_path / "copy")
    for old in folder.glob("unfinished-*"):
        old.unlink()
    [path] = segments(folder)
    content = path.read_bytes()
    last = content.splitlines(keepends=True)[-1]
    kept = content[: len(content) - min(cut, len(last) - 1)]
    path.write_bytes(kept)
    assert any("unfinished" in problem for problem in verify(folder).problems)
    log = AuditLog(folder)
    log.append(EVENTS[0])
    assert verify(folder).ok
    events = [e["event"] for e in log.entries()]
    if cut == 1:  # all but the newline was there
        assert events == ["started", "policy", "asked", "answered", "refused", "stopped", "started"]
    else:
        assert events == ["started", "policy", "asked", "answered", "refused", "recovered", "started"]
        [aside] = folder.glob("unfinished-*")
        assert aside.read_bytes() == kept.splitlines(keepends=True)[-1]


def test_a_crash_at_the_first_line_of_a_file(written, tmp_path):
    folder = copy(written, tmp_path / "copy")
    (folder / "audit-000002.jsonl").write_bytes(b'{"event":"rot')
    AuditLog(folder).append(EVENTS[0])
    assert verify(folder).ok
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "audit-000001.jsonl").write_bytes(b"{")
    AuditLog(empty).append(EVENTS[0])
    assert verify(empty).ok


def test_nothing_is_added_after_a_line_that_was_changed(written, tmp_path):
    folder = copy(written, tmp_path / "copy")
    [path] = segments(folder)
    path.write_bytes(path.read_bytes().replace(b"SIGTERM", b"SIGKILL"))
    with pytest.raises(UserError, match="audit verify"):
        AuditLog(folder).append(EVENTS[0])


MANY = """
import sys
from pathlib import Path
from remind_client.audit.events import Stopped
from remind_client.audit.log import AuditLog

for number in range(20):
    AuditLog(Path(sys.argv[1]), rotate_bytes=2000).append(Stopped(reason=f"{sys.argv[2]} {number}"))
"""


def test_writers_in_several_processes_make_one_chain(tmp_path):
    command = [sys.executable, "-c", MANY, str(tmp_path / "log")]
    writers = [subprocess.Popen([*command, name]) for name in ("a", "b", "c")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert verify(tmp_path / "log").ok
    said = [e["reason"] for e in AuditLog(tmp_path / "log").entries() if e["event"] == "stopped"]
    assert sorted(said) == sorted(f"{name} {number}" for name in "abc" for number in range(20))


def test_the_log_is_its_owners_alone(written):
    assert all(path.stat().st_mode & 0o077 == 0 for path in segments(written))


def test_there_is_no_field_for_a_patient():
    with pytest.raises(ValidationError):
        Answered.model_validate({"run": "1", "request": "train", "answer": "Report", "patients": ["Anna"]})
    with pytest.raises(ValidationError):
        Refused(run="not a run", request="x", reason="y")


@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda k: k not in {"hash", "sequence", "time", "previous"}),
        st.text() | st.integers(),
    )
)
def test_any_entry_is_read_back_as_it_was(content):
    line, head = sealed(content, Head(), "now")
    entry = parse(line[:-1])
    assert entry is not None
    assert {k: entry[k] for k in content} == content
    assert canonical(entry) == line[:-1]
    assert head == Head(0, entry["hash"])
