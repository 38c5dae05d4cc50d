"""Options and prompts that the commands of ``remind consortium`` share.

Every `remind` command loads this file, so heavy imports are in functions.
"""

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remind.errors import UserError
from remind_server.consortium import PASSPHRASE

if TYPE_CHECKING:
    from remind.consortium.enrolment import Request
    from remind_server.consortium.folder import Folder

CHECK_FAILED, RUN_FAILED = 10, 20  # exit codes beside 1, a mistake: docs/exit-codes-coordinator.md
SHORTEST_PASSPHRASE = 12

Where = Annotated[Path, typer.Argument(metavar="DIR", help="The consortium's folder.")]
PassphraseFile = Annotated[
    Path | None, typer.Option(help=f"File with the passphrase of the CA's key; default: ${PASSPHRASE}.")
]


def open_folder(where: Path, command: str) -> "Folder":
    """Return the folder, if the operator's role allows the command.

    Raises
    ------
    UserError
        The role does not allow it, or the folder is not a consortium.
    """
    from remind_server.consortium.folder import Folder
    from remind_server.consortium.operations import require_role

    folder = Folder(where.absolute())
    require_role(folder, command)
    return folder


def note(folder: "Folder", what: str, **details: object) -> None:
    """Write an operation to the consortium's log."""
    from remind_server.consortium import operations

    operations.note(folder, what, **details)


@contextmanager
def noted(folder: "Folder", what: str, **details: object) -> Iterator[None]:
    """Write an operation to the consortium's log before the block does it; if the block fails, write that too."""
    note(folder, what, **details)
    try:
        yield
    except UserError as error:
        note(folder, what, **details, failed=str(error).partition("\n")[0])
        raise


def read_passphrase(file: Path | None, new: bool = False) -> bytes | None:
    """Return the CA key's passphrase from a file or the environment; None if there is none.

    Raises
    ------
    UserError
        The file cannot be read, or the passphrase of a new key is too short.
    """
    if file is not None:
        try:
            given = file.read_bytes().rstrip(b"\r\n")
        except OSError as error:
            raise UserError(f"--passphrase-file {file}: cannot read it: {error.strerror}") from None
    else:
        given = os.environ.get(PASSPHRASE, "").encode()
    if new and len(given) < SHORTEST_PASSPHRASE:
        raise UserError(
            f"the CA's key needs a passphrase of at least {SHORTEST_PASSPHRASE} characters: --passphrase-file FILE or "
            f"${PASSPHRASE}; or leave it unencrypted: --unencrypted-ca-key"
        )
    return given or None


def confirmation(expected: str) -> "Callable[[Request], None]":
    """Return a function that asks whether a request's fingerprint is the hospital's, or compares it with `expected`."""

    def confirm(request: "Request") -> None:
        shown = f"{request.site} ({request.location or 'no location'})"
        if expected:
            if not secrets.compare_digest(expected.strip().encode(), request.fingerprint.encode()):
                raise UserError(
                    f"--fingerprint: the key in the request of {shown} has another, {request.fingerprint}: the request "
                    "is not the hospital's; ask for a new one over another channel"
                )
            return
        if not sys.stdin.isatty():
            raise UserError("cannot ask for confirmation of the fingerprint; give it: --fingerprint SHA256:…")
        print(
            f"{shown} asks to join, with the key\n  {request.fingerprint}\n"
            "Telephone the hospital and compare the whole fingerprint."
        )
        if not typer.confirm("Is it theirs?"):
            raise UserError("not enrolled; nothing changed")

    return confirm


def warn(texts: list[str]) -> None:
    """Print warnings on stderr."""
    for text in texts:
        print(f"warning: {text}", file=sys.stderr)
