"""The one exception for a user's mistake: it is shown as its message alone, never as a traceback."""

from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right.

    The message names the file, the field, the value seen and the remedy. Command-line entry points print it after
    ``error:`` and exit with code 1; the coordinator's run ends with it as its status.
    """


def several(heading: str, problems: Iterable[str]) -> UserError:
    """One error for many problems: `heading`, then each problem on a line of its own."""
    return UserError("\n".join([heading, *(f"  - {problem}" for problem in problems)]))
