"""A note: plain text in UTF-8."""

from pathlib import Path

from remind.data.files.errors import Unreadable, reading


def read_note(path: Path) -> str:
    """Return the text of a note without a byte-order mark and without surrounding space.

    Raises
    ------
    Unreadable
        The file does not exist, is not UTF-8, or is not text.
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
