"""Formats the ledger: as a table for people, as JSON, and as CSV with one row per spend."""

import csv
import io
import json
from collections.abc import Sequence

from remind_client.ledger.account import Account, RunAccount
from remind_client.ledger.spends import Spend

HEAD = ("patients", "release", "asked", "releases", "noise", "rate", "alone")
NOTE = "asked: rounds or questions; noise: multiplier; rate: sampling rate; alone: epsilon by itself"
OWN = "without the noise of the other hospitals, which share it with this one"
COLUMNS = (
    "number",
    "at",
    "run",
    "round",
    "patients",
    "release",
    "noise",
    "rate",
    "releases",
    "delta",
    "question",
    "own_noise",
)


def to_text(account: Account) -> str:
    """Return one block of lines per run, and the line of all runs."""
    if not account.runs:
        return "nothing has been spent"
    blocks = [_block(run, account) for run in account.runs]
    limit = "no limit" if account.for_life is None else f"{account.for_life:g}"
    left = "" if account.left is None else f", {_number(account.left)} left"
    life = f"for life, delta {account.delta:g}: epsilon {_number(account.epsilon)} of {limit}{left}"
    return "\n\n".join([*blocks, life, NOTE])


def to_rows(run: RunAccount) -> list[tuple[str, ...]]:
    """Return the header row, and one row per kind of release."""
    rows: list[tuple[str, ...]] = [HEAD]
    for line in run.lines:
        numbers = (_number(line.noise), _number(line.rate), _number(line.epsilon))
        rows.append((line.part, line.what, str(line.rounds), str(line.steps), *numbers))
    return rows


def _block(run: RunAccount, account: Account) -> str:
    rows = to_rows(run)
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    table = ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    limit = "no limit" if account.per_run is None else f"{account.per_run:g}"
    left = "" if run.left is None else f", {_number(run.left)} left"
    head = f"run {run.run}, {run.first} to {run.last}: epsilon {_number(run.epsilon)} of {limit}{left}"
    own = [] if run.own is None else [f"  {OWN}: epsilon {_number(run.own)}"]
    return "\n".join([head, *table, *own])


def to_json(account: Account) -> str:
    """Return the account as JSON."""
    return json.dumps(account.to_dict(), indent=2)


def to_csv(spends: Sequence[Spend]) -> str:
    """Return CSV with one row per spend; rounds are counted from 1."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for s in spends:
        m, round_ = s.release.mechanism, "" if s.round is None else s.round + 1
        row = (s.number, s.at, s.run, round_, s.release.part, m.what, m.noise, m.rate, m.steps, s.release.delta)
        writer.writerow((*row, s.question, "" if s.release.own is None else s.release.own))
    return out.getvalue()


def _number(value: float) -> str:
    return f"{value:.3g}"
