"""Approval of runs by the hospital: of a run config by its fingerprint, so that a second run of the same needs none."""

import re

from remind.errors import UserError
from remind_client.audit.events import Approved
from remind_client.site_config import SiteConfig


def set_approval(site: SiteConfig, configuration: str, approved: bool) -> None:
    """Approve run configs of this fingerprint, or withdraw that; both are in the audit log.

    Raises
    ------
    UserError
        If it is no fingerprint.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", configuration):
        raise UserError(
            f"approve: {configuration!r} is no fingerprint of a run config; `remind-site approve` shows them"
        )
    site.audit_log.append(Approved(event="approved" if approved else "withdrawn", configuration=configuration))
    site.ledger.approve(configuration, approved)


def waiting(site: SiteConfig) -> dict[str, str]:
    """Fingerprints that were asked for and are not approved, newest last, with the run that asked last."""
    found: dict[str, str] = {}
    for entry in site.audit_log.entries():
        configuration = entry.get("configuration", "")
        if entry.get("event") == "asked" and configuration and configuration not in site.ledger.approved():
            found.pop(configuration, None)
            found[configuration] = str(entry.get("run"))
    return found
