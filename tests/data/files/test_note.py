"""Notes."""

import pytest

from remind.data.files import read_note


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"no oedema\n", "no oedema"),
        ("\ufeff  Ödem, 2 µg\r\nβ-blocker \n".encode(), "Ödem, 2 µg\r\nβ-blocker"),
        (b"", ""),
        (b" \n", ""),
    ],
)
def test_a_note(tmp_path, content, text):
    (tmp_path / "a.txt").write_bytes(content)
    assert read_note(tmp_path / "a.txt") == text


@pytest.mark.parametrize("content", ["SECRET Ödem".encode("latin-1"), "SECRET".encode("utf-16")])
def test_other_codings(tmp_path, refused, content):
    (tmp_path / "a.txt").write_bytes(content)
    said = refused(read_note, tmp_path / "a.txt")
    assert "is not UTF-8 (at byte" in said
    assert "save it as UTF-8" in said
    assert "SECRET" not in said


def test_what_is_no_note(tmp_path, refused):
    (tmp_path / "a.txt").write_bytes(b"SECRET\0\0")
    assert refused(read_note, tmp_path / "a.txt").startswith("is not text")
    assert "no such file" in refused(read_note, tmp_path / "b.txt")
    assert "is a folder" in refused(read_note, tmp_path)
