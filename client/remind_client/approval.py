"""Approval of runs.

The hospital approves the fingerprint of a run config, so a second run with the same config needs no approval.
"""

import re

from remind.errors import UserError
from remind_client.audit.events import Approved
from remind_client.site_config import SiteConfig


def set_approval(site: SiteConfig, configuration: str, approved: bool) -> None:
    """Approve run configs with this fingerprint, or withdraw the approval; the audit log records both.

    Raises
    ------
    UserError
        If the text is not a fingerprint.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", configuration):
        raise UserError(
            f"approve: {configuration!r} is not a fingerprint of a run config; `remind-site approve` lists them"
        )
    site.audit_log.append(Approved(event="approved" if approved else "withdrawn", configuration=configuration))
    site.ledger.approve(configuration, approved)


def waiting(site: SiteConfig) -> dict[str, str]:
    """Return requested fingerprints without approval, newest last, each with the last run that requested it."""
    found: dict[str, str] = {}
    for entry in site.audit_log.entries():
        configuration = entry.get("configuration", "")
        if entry.get("event") == "asked" and configuration and configuration not in site.ledger.approved():
            found.pop(configuration, None)
            found[configuration] = str(entry.get("run"))
    return found
