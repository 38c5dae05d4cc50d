"""A note: plain text in UTF-8."""

from pathlib import Path

from remind.data.files.errors import Unreadable, reading


def read_note(path: Path) -> str:
    """Text of a note without a byte-order mark and without space around it.

    Raises
    ------
    Unreadable
        No file, not UTF-8, or not text.
    """
    with reading():
        content = path.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Unreadable(f"is not UTF-8 (at byte {error.start + 1})", "save it as UTF-8") from None
        if "\0" in text:
            raise Unreadable("is not text: it holds NUL bytes", "save it as plain text in UTF-8")
    return text.strip()
