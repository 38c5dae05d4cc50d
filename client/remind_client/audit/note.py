"""Record in the audit log which policy is in force."""

from remind_client.audit.events import PolicyChanged
from remind_client.audit.log import AuditLog


def note_policy(log: AuditLog, digest: str) -> None:
    """Log a change of the policy, if it differs from the last policy in the log."""
    known = log.last("policy")
    before = str(known["after"]) if known else ""
    if before != digest:
        log.append(PolicyChanged(before=before, after=digest))
