"""Text from outside (another site, the coordinator, a file), made fit to be shown, logged and stored.

What a stranger wrote can be megabytes long, can hold escape codes that move a terminal's cursor, and line breaks that
look like lines of our own. Whoever quotes such text in a message, a log or a record passes it through here.
"""

from collections.abc import Sequence

SHORT = 200  # characters of one quoted name or value
LONGEST = 2000  # characters of a whole reason or error; a refusal's reason has at most as many


def printable(text: str, keep: str = "") -> str:
    """Text as a terminal may show it: characters that do not print, but for those in `keep`, become spaces."""
    return "".join(c if c.isprintable() or c in keep else " " for c in text)


def quoted(text: object, most: int = SHORT, keep: str = "") -> str:
    """Text that prints, at most about `most` characters of it; what is cut off is said."""
    whole = str(text)
    shown = printable(whole[:most], keep)
    return shown if len(whole) <= most else f"{shown}… ({len(whole)} characters)"


def listed(many: Sequence[object], most: int = 3) -> str:
    """The first `most` of these, each `quoted`, and how many more there are."""
    more = f" and {len(many) - most} more" if len(many) > most else ""
    return ", ".join(quoted(one) for one in many[:most]) + more


def reason(text: object) -> str:
    """Why something was refused, as another party said it: several lines at most, of printable characters."""
    return quoted(text, LONGEST, keep="\n")
