"""Sanitises text from outside (another site, the coordinator, a file) before it is shown, logged or stored.

Text from another party can be megabytes long, and can contain escape codes that move a terminal's cursor, or line
breaks that imitate our own lines. Code that quotes such text in a message, a log or a record must call these functions.
"""

from collections.abc import Sequence

SHORT = 200  # characters of one quoted name or value
LONGEST = 2000  # characters of a whole reason or error; the limit for a refusal's reason too


def printable(text: str, keep: str = "") -> str:
    """Replace characters that do not print by spaces, except those in `keep`."""
    return "".join(c if c.isprintable() or c in keep else " " for c in text)


def quoted(text: object, most: int = SHORT, keep: str = "") -> str:
    """Return printable text of at most about `most` characters; it says how much was cut off."""
    whole = str(text)
    shown = printable(whole[:most], keep)
    return shown if len(whole) <= most else f"{shown}… ({len(whole)} characters)"


def listed(many: Sequence[object], most: int = 3) -> str:
    """Return the first `most` of these, each `quoted`, and the number of the others."""
    more = f" and {len(many) - most} more" if len(many) > most else ""
    return ", ".join(quoted(one) for one in many[:most]) + more


def reason(text: object) -> str:
    """Format another party's reason for a refusal: at most several lines of printable characters."""
    return quoted(text, LONGEST, keep="\n")
