"""Finds a privacy ledger that is older than the audit log, such as a restored backup, and enters what it lacks.

Both record every spend before its release is computed. A ledger that lacks spends of the audit log counts too little:
it would let patients spend their budget a second time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from remind.errors import UserError
from remind.privacy.accounting import Mechanism
from remind_client.audit.log import AuditLog, segments
from remind_client.ledger.budget import Release
from remind_client.ledger.spends import PrivacyLedger

REMEDY = "restore the newest copy; if there is none: remind-site ledger --from-audit-log enters them"
_Key = tuple[int, str, int | None, str, Mechanism]


@dataclass(frozen=True)
class Lost:
    """A spend that the audit log has and the ledger has not. `entry`: where it stands in the log."""

    entry: str
    run: str
    round: int | None
    release: Release

    @property
    def question(self) -> str:
        """Stands in the ledger in place of the digest of the question, which the log does not know."""
        return f"audit log {self.entry}"


def lost_spends(ledger: PrivacyLedger, log: AuditLog) -> list[Lost]:
    """Return the spends of the audit log that are not in the ledger, in order."""
    spends = ledger.spends()
    known, entered = {_key(s.number, s.run, s.round, s.release) for s in spends}, {s.question for s in spends}
    found = {_key(number, one.run, one.round, one.release): one for number, one in _logged(log)}
    return [one for key, one in found.items() if key not in known and one.question not in entered]


def require_newest(ledger: PrivacyLedger, log: AuditLog) -> None:
    """Refuse to spend from a ledger that counts too little.

    Raises
    ------
    UserError
        The audit log has spends that the ledger lacks.
    """
    if problem := rollback_problem(ledger, log):
        raise UserError(f"{problem}, so runs that need it are refused; {REMEDY}")


def rollback_problem(ledger: PrivacyLedger, log: AuditLog) -> str:
    """Return what the ledger lacks, in words; empty if nothing."""
    lost = lost_spends(ledger, log)
    return f"{ledger.path}: {len(lost)} spend(s) of the audit log are not in it: it counts too little" if lost else ""


def enter_lost(ledger: PrivacyLedger, log: AuditLog) -> int:
    """Enter the spends that the ledger lacks, whatever the limits; return how many.

    Their questions are not known: if one of them is asked again, it is paid again.

    Raises
    ------
    UserError
        There is no audit log to enter them from.
    """
    if not segments(log.folder):
        raise UserError(f"{log.folder}: no audit log is there, so nothing can be entered; put its files there first")
    lost = lost_spends(ledger, log)
    for one in lost:
        ledger.spend(one.run, one.round, one.question, [one.release], ())
    return len(lost)


def _logged(log: AuditLog) -> Iterator[tuple[int, Lost]]:
    """Yield the number in the ledger, and the spend, of all that the log knows."""
    for entry in log.entries():
        if entry.get("event") != "spent":
            continue
        for place, (number, one) in enumerate(zip(entry["numbers"], entry["releases"], strict=True)):
            mechanism = Mechanism(one["what"], one["noise"], one["rate"], one["steps"])
            release = Release(one["part"], mechanism, one.get("delta", 0.0), one.get("own"))
            yield number, Lost(f"{entry['sequence']}.{place}", entry["run"], entry["round"], release)


def _key(number: int, run: str, round_: int | None, release: Release) -> _Key:
    return number, run, round_, release.part, release.mechanism
