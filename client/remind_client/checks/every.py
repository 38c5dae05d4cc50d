"""All checks, in the order in which an operator would fix the problems."""

from datetime import UTC, datetime

from remind.errors import UserError
from remind_client.checks import local, network
from remind_client.checks.finding import Finding, failed, ok
from remind_client.site_config import SiteConfig


def run_checks(site: SiteConfig) -> list[Finding]:
    """Run every check; a failed check does not stop the others."""
    findings: list[Finding] = []
    for check in (
        local.check_user,
        local.check_key,
        local.check_state,
        local.check_launcher,
        local.check_policy,
        local.check_vault,
        local.check_audit,
        local.check_ledger,
        local.check_device,
        local.check_cohort_of,
    ):
        findings += check(site)
    try:
        kit = site.kit()
    except UserError as error:
        return [*findings, failed("kit", str(error), "")]
    findings.append(ok("kit", f"consortium {kit.consortium!r} at {kit.address}"))
    now = datetime.now(UTC)
    return [*findings, *network.check_trust(kit, now), *network.check_coordinator(kit, now)]
