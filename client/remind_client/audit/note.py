"""Noting in the log which policy holds."""

from remind_client.audit.events import PolicyChanged
from remind_client.audit.log import AuditLog


def note_policy(log: AuditLog, digest: str) -> None:
    """Write down that the policy is another than the log last said, if it is."""
    known = log.last("policy")
    before = str(known["after"]) if known else ""
    if before != digest:
        log.append(PolicyChanged(before=before, after=digest))
