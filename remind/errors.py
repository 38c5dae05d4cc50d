"""The only exception for a user's mistake: the user sees its message, never a traceback."""

from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can correct.

    The message names the file, the field, the value seen and the remedy. Command-line entry points print it after
    ``error:`` and exit with code 1; the coordinator's run ends with it as its status.
    """


def several(heading: str, problems: Iterable[str]) -> UserError:
    """Combine many problems in one error: `heading`, then one problem per line."""
    return UserError("\n".join([heading, *(f"  - {problem}" for problem in problems)]))
