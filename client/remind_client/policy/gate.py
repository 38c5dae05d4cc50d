"""Decide whether a request may be answered. Pure functions, except for the state in the ledger.

A reason leaves the site. So it states the policy and the request, and nothing about the cohort: in particular, the
text is the same for a group that is too small and for a group that does not exist.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from remind.config import Config
from remind.federation.blocks import Entry
from remind.federation.message_types import Message
from remind.federation.messages import Enrol, Examine, Task
from remind_client.policy.bundle import Bundle
from remind_client.policy.ledger import Ledger
from remind_client.policy.rules import Policy, fingerprint, named_models

APPROVE = "remind-site approve"


class RefusedError(Exception):
    """The policy refuses; the text gives the reason and may leave the site. `leaves`: as in `Refusal`."""

    def __init__(self, text: str, leaves: bool = False) -> None:
        super().__init__(text)
        self.leaves = leaves


@dataclass(frozen=True)
class Asking:
    """The properties of a request that the policy examines.

    Attributes
    ----------
    run
        The run's identity (`remind.paths.run_name`).
    question
        Digest of a task with its tensors; empty: not known, so that the request counts as a new one.
    """

    run: int | str
    bundle: Bundle
    config: Config
    message: Message
    question: str = ""


def require_bundle(policy: Policy, bundle: Bundle) -> None:
    """Refuse a bundle that contains code, is not on the allow list, or belongs to an app that may not run here.

    Raises
    ------
    RefusedError
        With the reason.
    """
    if policy.bundles and bundle.sha256 not in policy.bundles:
        raise RefusedError(f"the site's policy allows only listed bundles; this one is {bundle.sha256}")
    if bundle.sha256 not in policy.code_bundles and (reason := bundle.not_configuration()):
        raise RefusedError(f"the site's policy allows only bundles of configuration; {reason} (bundle {bundle.sha256})")
    if not policy.run_allowed(bundle.app):
        raise RefusedError(f"the site's policy does not allow runs of {bundle.app}")


def require_allowed(policy: Policy, asking: Asking, now: datetime, ledger: Ledger) -> None:
    """Refuse a request that the policy does not allow. A refusal changes nothing at the site.

    Parameters
    ----------
    now
        The current time, with a time zone.

    Raises
    ------
    RefusedError
        With the reason.
    """
    _require_configuration(policy, asking.config)
    _require_agreed(policy, asking, ledger)
    if isinstance(asking.message, Enrol):
        return
    if not policy.open_at(now):
        raise RefusedError(f"outside the site's hours of operation ({'; '.join(policy.hours)})")
    released = ledger.released(asking.run)
    if released is None:
        raise RefusedError("this run has not enrolled the site; enrol it first")
    if isinstance(asking.message, Task | Examine):
        if (asking.message.secure is not None) != asking.config.federation.secure_aggregation:
            raise RefusedError("the run's settings and the message differ in whether answers are masked")
        _require_groups(asking.message, released)
    if isinstance(asking.message, Examine):
        most = policy.examinations_per_run
        if not ledger.begin(asking.run, "examinations", most):
            raise RefusedError(f"the site's policy allows {most} examinations a run; they are used up")
    if isinstance(asking.message, Task):
        require_blocks(policy, asking.message.index)
        if asking.question and ledger.is_repeated(asking.run, asking.message.round, asking.question):
            return
        day, per_day, per_run = now.astimezone(policy.zone).date(), policy.rounds_per_day, policy.rounds_per_run
        if not ledger.begin_round(day, per_day):
            raise RefusedError(f"the site's policy allows {per_day} training rounds a day; today's are used up")
        if not ledger.begin(asking.run, "rounds", per_run):
            raise RefusedError(f"the site's policy allows {per_run} training rounds a run; they are used up")


def _require_agreed(policy: Policy, asking: Asking, ledger: Ledger) -> None:
    """Refuse settings that wait for approval, and others than those with which the run enrolled the site."""
    config_print = fingerprint(asking.config)
    if policy.approval and config_print not in ledger.approved():
        raise RefusedError(f"the site has not approved this configuration yet; it does with: {APPROVE} {config_print}")
    if ledger.configuration(asking.run) not in ("", config_print):
        raise RefusedError("this run enrolled the site with other settings; a run keeps its settings")


def _require_configuration(policy: Policy, config: Config) -> None:
    config_print = fingerprint(config)
    if policy.configurations and config_print not in policy.configurations:
        raise RefusedError(
            f"the site's policy allows only listed configurations; this one has fingerprint {config_print}"
        )
    for name, model in named_models(config).items():
        if not policy.model_allowed(model):
            raise RefusedError(f"the site's policy does not allow {name} = {model!r}")
    if problems := policy.training_problems(config):
        unbounded = config.privacy.mode == "joint" and not policy.privacy.bounds_runs
        unless = " (a policy with privacy.epsilon_per_run allows steps of privacy.mode = joint)" if unbounded else ""
        raise RefusedError(f"the site's policy does not allow {'; nor '.join(problems)}{unless}")
    if problem := policy.privacy.problem(config):
        raise RefusedError(problem)


def require_blocks(policy: Policy, index: Iterable[Entry]) -> None:
    """Refuse to send tensors that may not leave.

    Raises
    ------
    RefusedError
        With the blocks.
    """
    if held := sorted({entry.block for entry in index if not policy.block_allowed(entry.block)}):
        raise RefusedError(f"the site's policy does not let these tensors leave: {', '.join(held[:5])}")


def _require_groups(message: Task | Examine, released: frozenset[int]) -> None:
    named = {entry.block.removeprefix("group:") for entry in message.index if entry.block.startswith("group:")}
    if isinstance(message, Task):
        named |= {str(k) for k in (*message.weights, *message.counts, *message.labels, *message.given)}
        named |= {b.removeprefix("group:") for b in message.block_weights if b.startswith("group:")}
    if message.secure is not None:
        named |= {b.removeprefix("group:") for b in message.secure.observers if b.startswith("group:")}
        named |= {str(k) for k in message.secure.patient}
    if strangers := sorted(named - {str(k) for k in released}):
        raise RefusedError(f"the request names groups that this site did not enrol: {', '.join(strangers[:5])}")
