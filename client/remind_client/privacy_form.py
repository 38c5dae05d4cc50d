"""A form for the data-protection officer: what left this hospital in a run, how often, to whom, under which guarantee.

Filled from the audit log (what left), the privacy ledger (what it cost) and the policy (what is allowed).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from remind.config import Config
from remind.errors import UserError
from remind_client.ledger.account import RunAccount, account_of
from remind_client.ledger.show import to_rows
from remind_client.run_plan import plan_for, plan_lines
from remind_client.site_config import SiteConfig

WORDS = {
    "Enrolment": "description of the data: schema, patients per combination of modalities",
    "Report": "changes of the model after local steps, with statistics where no guarantee is asked for",
    "Examination": "scores of the model on validation and test patients",
    "Keys": "public keys of secure aggregation",
    "Dealt": "shares of secrets, each readable by one other hospital alone",
    "MaskedAnswer": "changes of the model or sums of gradients, or scores, under masks: readable in sum alone",
    "Unmasked": "shares with which the coordinator reads the sum over all hospitals",
}
OUTSIDE = (
    "how long an answer took, whether there was one, and the text of a refusal",
    "the schema of the data: names of modalities, columns and classes",
    "what is true of patients in general: the model is meant to tell it",
)


@dataclass(frozen=True)
class Sent:
    """Answers of one kind that left."""

    answer: str
    times: int
    tensors: int
    bytes: int


def form_of(site: SiteConfig, run: str) -> str:
    """Return the form as Markdown.

    Raises
    ------
    UserError
        Neither the audit log nor the ledger knows the run.
    """
    limits, ledger = site.policy.privacy, site.privacy_ledger
    account = account_of(ledger, limits.delta, limits.epsilon_per_run, limits.epsilon_for_life, run)
    entries = [entry for entry in site.audit_log.entries() if run in (str(entry.get("run")), entry.get("of"))]
    if not account.runs and not entries:
        raise UserError(f"ledger: neither the privacy ledger nor the audit log knows a run {run!r}")
    spent = account.runs[0] if account.runs else None
    config = _config(site, run, entries)
    whole = f"for life: epsilon {account.epsilon:.3g} at delta {account.delta:g}"
    if account.for_life is not None:
        whole += f" of {account.for_life:g} that the policy allows"
    return "\n".join(
        [
            f"# Data protection: run {run} at {site.site}",
            "",
            f"Recipient: the coordinator of consortium {site.coordinator.consortium!r}, {site.coordinator.address}.",
            "Purpose: training one model together with other hospitals. Records of patients stay at this hospital.",
            "",
            "## What left, and how often",
            "",
            *_sent_table(_sent(entries)),
            "",
            *(
                [
                    "## What the run may cost, by its settings",
                    "",
                    *(f"- {line}" for line in plan_lines(site, config)),
                    "",
                ]
                if config
                else []
            ),
            "## Under which guarantee",
            "",
            *_given(spent, limits.delta, config, site.policy.minimum_patients),
            "",
            *([f"All runs of this hospital together, {whole}.", ""] if spent else []),
            "## What is outside the guarantee",
            "",
            *(f"- {one};" for one in OUTSIDE),
            "- patients with records at several hospitals spend at each of them.",
            "",
            "## Residual risk",
            "",
            *_risk(site, spent, config),
            "",
            "## To be filled in by the hospital",
            "",
            "- Legal basis of the processing: ",
            "- Information of the patients: ",
            "- Assessment of the residual risk, by whom, on which date: ",
            "",
        ]
    )


def _sent(entries: Sequence[dict[str, Any]]) -> list[Sent]:
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if entry.get("event") == "answered":
            found.setdefault(str(entry["answer"]), []).append(entry)
    return [
        Sent(
            kind,
            len(several),
            max(len(entry["tensors"]) for entry in several),
            sum(tensor["bytes"] for entry in several for tensor in entry["tensors"]),
        )
        for kind, several in found.items()
    ]


def _sent_table(sent: Sequence[Sent]) -> list[str]:
    if not sent:
        return ["The audit log knows no answer to this run."]
    rows = [
        f"| {one.answer} | {WORDS.get(one.answer, '')} | {one.times} | {one.tensors} | {one.bytes} |" for one in sent
    ]
    return ["| answer | what it holds | times | tensors | bytes in all |", "| --- | --- | --- | --- | --- |", *rows]


def _guarantee(run: RunAccount, delta: float) -> list[str]:
    head, *rows = to_rows(run)
    limit = "" if run.left is None else f"; the policy leaves this run {run.left:.3g}"
    return [
        f"Differential privacy of each patient: **epsilon {run.epsilon:.3g} at delta {delta:g}**{limit}. Two data sets",
        "that differ in one patient give the same answers with nearly the same probability.",
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "Noise is a multiplier of what one patient can change; rate is the chance of a patient to be in a step;",
        "`alone` is epsilon of the line by itself. Training, validation and test patients are different patients,",
        "so the part that spent most counts.",
        *(
            []
            if run.own is None
            else [
                "",
                "Hospitals shared the noise, under masks. Should all others have left theirs out, the noise of this",
                f"one alone gives **epsilon {run.own:.3g} at delta {delta:g}**.",
            ]
        ),
    ]


def _config(site: SiteConfig, run: str, entries: Sequence[dict[str, Any]]) -> Config | None:
    """Return the run's settings; None if they were not kept."""
    asked = [str(entry.get("configuration")) for entry in entries if entry.get("event") == "asked"]
    found = site.ledger.configuration(run) or (asked[-1] if asked else "")
    return site.configurations.of(found) if found else None


def _given(spent: RunAccount | None, delta: float, config: Config | None, minimum: int) -> list[str]:
    if spent is not None:
        return _guarantee(spent, delta)
    if config is not None and config.privacy.mode != "none":
        return ["Nothing has been spent yet."]
    return _none(minimum)


def _none(minimum: int) -> list[str]:
    return [
        f"None per patient. Combinations with fewer than {minimum} training patients were withheld",
        "(`policy.minimum_patients`), which bounds what is shown and not what changes of a model tell about a patient.",
    ]


def _risk(site: SiteConfig, run: RunAccount | None, config: Config | None) -> list[str]:
    if run is None and config is not None and config.privacy.mode != "none":
        return _odds(config.privacy.epsilon, _own(site, config))
    if run is None or not math.isfinite(run.epsilon):
        return [
            "A person who sees the changes of the model can find which patients were in a small group, or guess their",
            "labels (docs/privacy.md).",
        ]
    return _odds(run.epsilon, run.own)


def _own(site: SiteConfig, config: Config) -> float | None:
    """Return the largest ε by the noise of this hospital alone, of a run that has spent nothing yet."""
    try:
        plan = plan_for(site, config)
    except UserError:
        return None
    return max(plan.own.values(), default=None) if plan is not None else None


def _odds(epsilon: float, own: float | None) -> list[str]:
    """Return what ε means; `own`: ε by the noise of this hospital alone, where hospitals share it."""
    odds, alone = (math.exp(min(one, 700)) for one in (epsilon, own or 0.0))
    return [
        "A person who sees all answers, and knows all other patients, can raise the odds of a guess that a patient was",
        f"in the data at most {odds:.3g}-fold (e to the epsilon), apart from a chance of delta. This presumes that the",
        "hospital's secret stays one and that the software does what it says.",
        *(
            []
            if own is None
            else [
                "",
                f"If the other hospitals add none of the noise, or give theirs away: at most {alone:.3g}-fold, by this",
                f"hospital's own share alone (e to the epsilon of {own:.3g}).",
            ]
        ),
    ]
