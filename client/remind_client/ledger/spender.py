"""Records a site's releases of one run in the ledger and the audit log, within the limits."""

from collections.abc import Sequence
from dataclasses import dataclass

from remind.config import Config
from remind.federation.message_statistics import PrivacySpent
from remind.federation.message_types import MOST
from remind_client.audit.events import Spent, SpentOn
from remind_client.audit.log import AuditLog
from remind_client.ledger.account import by_kind, own_epsilon
from remind_client.ledger.budget import Limit, Release
from remind_client.ledger.spends import PrivacyLedger
from remind_client.ledger.totals import lifetime_total, upper_bound
from remind_client.policy.privacy import PrivacyPolicy


@dataclass(frozen=True)
class Spender:
    """Pays for the releases of one run.

    Attributes
    ----------
    limits
        All limits; the first is that of the run.
    run
        The run's identity (`remind.paths.run_name`).
    log
        The audit log; None for a virtual hospital.
    """

    ledger: PrivacyLedger
    run: str
    limits: tuple[Limit, ...]
    log: AuditLog | None = None

    def pay(self, round_: int | None, question: str, releases: Sequence[Release]) -> None:
        """Record releases before they are computed. A repeated question costs nothing.

        Raises
        ------
        BudgetError
            A limit would be exceeded. Nothing was recorded, and the releases must not be computed.
        UserError, OSError
            The ledger or the audit log cannot be written. The releases must not be computed.
        """
        self.ledger.spend(self.run, round_, question, releases, self.limits)
        if self.log is None:
            return
        rows = self.ledger.unlogged()  # including those of a killed process
        for run, at, asked in dict.fromkeys((row.run, row.round, row.question) for row in rows):
            of_it = [row for row in rows if (row.run, row.round, row.question) == (run, at, asked)]
            spent = tuple(
                SpentOn(part=r.part, what=m.what, noise=m.noise, rate=m.rate, steps=m.steps, delta=r.delta, own=r.own)
                for row in of_it
                for r in [row.release]
                for m in [r.mechanism]
            )
            self.log.append(Spent(run=run, round=at, numbers=tuple(row.number for row in of_it), releases=spent))
        self.ledger.mark_logged(row.number for row in rows)

    def spent(self) -> PrivacySpent:
        """Return what this run has spent at the δ of the run, and what is left of the tightest limit."""
        limit, totals = self.limits[0], self.ledger.totals()
        run, life = upper_bound(totals.get(self.run, {}).values()), lifetime_total(totals)
        left = [one.epsilon - (life if one.for_life else run).epsilon(one.delta) for one in self.limits]
        rows = self.ledger.spends(self.run)
        own = own_epsilon(rows, limit.delta)
        return PrivacySpent(
            epsilon=min(run.epsilon(limit.delta), MOST),
            delta=limit.delta,
            left=min(max(0.0, min(left)), MOST),
            own=None if own is None else min(own, MOST),
            releases={k: min(e, MOST) for k, e in by_kind(rows, limit.delta).items()},
        )


def limits_of(config: Config, policy: PrivacyPolicy | None = None) -> tuple[Limit, ...]:
    """Return the run's own limit and those of the hospital's policy; None for a virtual hospital."""
    found = [Limit("privacy.epsilon", config.privacy.epsilon, config.privacy.delta)]
    if policy is None:
        return tuple(found)
    for name, epsilon, life in (
        ("epsilon_per_run", policy.epsilon_per_run, False),
        ("epsilon_for_life", policy.epsilon_for_life, True),
    ):
        if epsilon is not None:
            found.append(Limit(f"policy.privacy.{name}", epsilon, policy.delta, life))
    return tuple(found)
