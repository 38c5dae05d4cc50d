"""Operators of a consortium, their roles, and an append-only record of their operations.

An operator is a user of this machine (under sudo: the calling user), named in ``consortium.toml``. Roles divide work
and prevent mistakes; they are no access control, because everyone who can write the folder can do everything. The
hash chain of the record shows later changes.
"""

import os
import pwd
from datetime import UTC, datetime
from typing import Any

from remind.errors import UserError
from remind.hash_chain import Entry, Head, head_of, parse, problems, sealed
from remind.processes.private_files import append_private
from remind_server.consortium.folder import Folder
from remind_server.consortium.settings import ROLES, Role

NEEDED: dict[str, Role] = {  # least role that a command requires
    "list": "viewer",
    "check": "viewer",
    "runs": "viewer",
    "bundle": "viewer",
    "log": "viewer",
    "run": "runner",
    "resume": "runner",
    "stop": "runner",
}  # every other command: admin


def user() -> str:
    """Return the user of this machine who runs the command; under sudo, the calling user."""
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name


def require_role(folder: Folder, command: str) -> None:
    """Refuse a command that the operator's role does not allow. Without named operators, everyone may do everything.

    Raises
    ------
    UserError
        Names the user, the role and the required role.
    """
    operators = folder.settings.operators
    if not operators:
        return
    needed, acting = NEEDED.get(command, "admin"), user()
    role = next((operator.role for operator in operators if operator.user == acting), None)
    if role is None or ROLES.index(role) < ROLES.index(needed):
        is_ = f"has the role {role!r}" if role else "is not an operator of this consortium"
        raise UserError(
            f"{command}: {acting} {is_}; it requires {needed!r} (operators are named in {folder.settings_file})"
        )


def note(folder: Folder, what: str, **details: Any) -> None:
    """Append a line to the record and flush it to disk.

    Raises
    ------
    UserError
        The line cannot be written; the caller must then not execute the operation.
    """
    try:
        with folder.locked("operations"):
            lines = folder.operations.read_bytes().split(b"\n") if folder.operations.exists() else [b""]
            last = parse(lines[-2]) if len(lines) > 1 else None
            if lines[-1] or (len(lines) > 1 and last is None):
                raise UserError(
                    f"{folder.operations}: its last line is damaged; show it with: remind consortium log DIR"
                )
            head = head_of(last) if last else Head()
            line, _ = sealed({"who": user(), "what": what, **details}, head, datetime.now(UTC).isoformat())
            append_private(folder.operations, line)
    except OSError as error:
        raise UserError(f"{folder.operations}: cannot be written: {error.strerror}; nothing was done") from None


def read_operations(folder: Folder) -> tuple[list[Entry], list[str]]:
    """Return all complete lines of the record, and its problems."""
    try:
        lines = folder.operations.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], []
    found, _ = problems(lines[:-1], Head())
    if lines[-1]:
        found.append(f"line {len(lines)}: incomplete")
    return [entry for line in lines if (entry := parse(line)) is not None], found


def shown(entry: Entry) -> str:
    """Format a line for display."""
    details = {k: v for k, v in entry.items() if k not in {"who", "what", "time", "sequence", "previous", "hash"}}
    said = ", ".join(f"{name} {value}" for name, value in sorted(details.items()) if value not in ("", {}, None))
    return f"{entry['time'][:19]}  {entry['who']:<12}  {entry['what']:<9}  {said}".rstrip()
