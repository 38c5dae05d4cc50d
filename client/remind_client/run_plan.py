"""What a run would cost this hospital's patients, from its settings: before anything is computed, sent or spent."""

from remind.config import Config
from remind.consortium.roster import read_roster
from remind.errors import UserError
from remind.privacy_plan import SOME, PrivacyPlan, plan_of
from remind_client.site_config import SiteConfig

NO_GUARANTEE = "privacy.mode = none: no guarantee for single patients"


def plan_lines(site: SiteConfig, config: Config) -> list[str]:
    """Return what a run with these settings costs, and what its hospitals' own noise gives, in sentences.

    The number of hospitals is that of the roster: fewer that take part have larger shares of the noise.
    """
    try:
        plan = plan_for(site, config)
    except UserError as error:
        return [str(error)]
    return plan.lines() if plan is not None else [NO_GUARANTEE]


def plan_for(site: SiteConfig, config: Config) -> PrivacyPlan | None:
    """Return what a run with these settings costs here; None without a guarantee. Raises the errors of `plan_of`."""
    return plan_of(config, _hospitals(site))


def _hospitals(site: SiteConfig) -> tuple[int, ...]:
    try:
        return (len(read_roster(site.path(site.roster))),) if site.roster else SOME
    except UserError:
        return SOME
