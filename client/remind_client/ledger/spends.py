"""The ledger on disk: one SQLite file of the site. A spend is on the disk before what it pays for is computed.

A process that is killed has either not spent and not computed, or it has spent: the ledger never counts too little.
Spends are told apart by the digest of the question: the same question again gets the same bytes, reveals nothing new
and costs nothing; another question for the same round is a new spend.

Patients of different parts of the split are different patients, so within a run the part that spent most counts. Over
all runs each run counts with that part, as another run may split differently.

The site's secret, from which noise and samples are drawn, is kept in the same file: whoever loses the ledger loses the
secret too, so an old question never gets old noise under a ledger that does not know it.
"""

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from remind.errors import UserError
from remind.privacy.accounting import ORDERS, ORDERS_VERSION, Curve, Mechanism, epsilon, nothing
from remind.processes.private_files import private_folder
from remind_client.ledger.budget import SLACK, BudgetError, Limit, Release

FILE = "privacy.sqlite"
PATIENCE = 60.0  # seconds for the lock of another process
SECRET_BYTES = 32
_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS spends (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, run TEXT NOT NULL, round INTEGER, question TEXT NOT NULL,
    part TEXT NOT NULL, what TEXT NOT NULL, noise REAL NOT NULL, rate REAL NOT NULL, steps INTEGER NOT NULL,
    delta REAL NOT NULL, logged INTEGER NOT NULL DEFAULT 0,
    UNIQUE (run, question, part, what, noise, rate, steps, delta)) STRICT;
CREATE TABLE IF NOT EXISTS totals (
    run TEXT NOT NULL, part TEXT NOT NULL, curve BLOB NOT NULL, delta REAL NOT NULL, PRIMARY KEY (run, part)) STRICT;
"""


@dataclass(frozen=True)
class Spend:
    """A row of the ledger: `round` counts from 0; None: not of a round."""

    number: int
    at: str
    run: str
    round: int | None
    question: str
    release: Release


@dataclass(frozen=True)
class Total:
    """What was spent: a curve, and δ of thresholds."""

    curve: Curve
    delta: float

    def __add__(self, other: "Total") -> "Total":
        return Total(self.curve + other.curve, self.delta + other.delta)

    def __or__(self, other: "Total") -> "Total":
        """An upper bound of both, for patients of whom nobody knows which of the two they spent."""
        return Total(np.maximum(self.curve, other.curve), max(self.delta, other.delta))

    def epsilon(self, delta: float) -> float:
        """ε at this δ, of which thresholds took their share; inf if they took all."""
        left = delta - self.delta
        return epsilon(self.curve, left) if left > 0 else float("inf")


NOTHING = Total(nothing(), 0.0)


@dataclass(frozen=True)
class PrivacyLedger:
    """The ledger in a folder of the site; the first use creates it."""

    folder: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / FILE

    @property
    def secret(self) -> bytes:
        """The site's secret: drawn once, never sent."""
        with self._open() as db:
            return bytes(db.execute("SELECT value FROM about WHERE name = 'secret'").fetchone()[0])

    def spend(
        self, run: str, round_: int | None, question: str, releases: Sequence[Release], limits: Sequence[Limit]
    ) -> list[Release]:
        """Enter releases before they are computed, all or none; return those that are new.

        Those of them that this run has paid for under the same question are not entered again.

        Raises
        ------
        BudgetError
            A limit would be exceeded; nothing is entered then.
        UserError
            The file cannot be used.
        """
        with self._open() as db, _transaction(db):
            new = [release for release in releases if not _known(db, run, question, release)]
            if not new:
                return []
            totals = _totals(db)
            before = totals.get(run, {})
            after = dict(before)
            for release in new:
                added = Total(release.mechanism.curve(), release.delta)
                after[release.part] = after.get(release.part, NOTHING) + added
            _require(totals | {run: after}, run, limits)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            for release in new:
                m = release.mechanism
                row = (now, run, round_, question, release.part, m.what, m.noise, m.rate, m.steps, release.delta)
                db.execute(
                    "INSERT INTO spends (at, run, round, question, part, what, noise, rate, steps, delta)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
            for part, total in after.items():
                values = (run, part, total.curve.astype("<f8").tobytes(), total.delta)
                db.execute("INSERT OR REPLACE INTO totals VALUES (?, ?, ?, ?)", values)
        return new

    def spends(self, run: str = "") -> list[Spend]:
        """Rows, in order; of one run if it is named."""
        if not self.path.is_file():
            return []
        with self._open() as db:
            return _rows(db, "? IN ('', run)", (run,))

    def unlogged(self) -> list[Spend]:
        """Rows of which the audit log may not know: the process was killed between the two."""
        with self._open() as db:
            return _rows(db, "logged = 0")

    def logged(self, numbers: Iterable[int]) -> None:
        """Note that the audit log has these rows."""
        with self._open() as db, _transaction(db):
            db.executemany("UPDATE spends SET logged = 1 WHERE number = ?", [(number,) for number in numbers])

    def totals(self) -> dict[str, dict[str, Total]]:
        """Run → part → what was spent, runs in the order of their first spend."""
        if not self.path.is_file():
            return {}
        with self._open() as db:
            return _totals(db)

    def of_run(self, run: str) -> Total:
        """What the part of a run that spent most has spent."""
        return most(self.totals().get(run, {}).values())

    def for_life(self) -> Total:
        """What all runs have spent."""
        return for_life(self.totals())

    def problems(self) -> list[str]:
        """What is wrong with the file; empty if the totals are the sums of the rows."""
        sums: dict[tuple[str, str], Total] = {}
        for spend in self.spends():
            key = (spend.run, spend.release.part)
            sums[key] = sums.get(key, NOTHING) + Total(spend.release.mechanism.curve(), spend.release.delta)
        kept = {(run, part): total for run, parts in self.totals().items() for part, total in parts.items()}
        if sums.keys() != kept.keys() or any(not _same(sums[key], kept[key]) for key in sums):
            return [f"{self.path}: its totals are not the sums of its rows"]
        return []

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            private_folder(self.folder)
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))  # nobody else's, before the first byte
            with closing(sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)) as db:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                _prepare(db, self.path)
                yield db
        except sqlite3.OperationalError as error:
            raise UserError(f"{self.path}: the privacy ledger cannot be used: {error}") from None
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{self.path}: the privacy ledger is damaged ({error}); without it nothing that needs it is answered; "
                "restore it from your newest copy: an older one counts too little"
            ) from None


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Create the tables and the secret, or see that the file's curves are of the orders of this version."""
    made = json.dumps({"version": ORDERS_VERSION, "orders": ORDERS})
    found = None
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'totals'").fetchone():
        found = db.execute("SELECT value FROM about WHERE name = 'orders'").fetchone()
    if found is None:
        with _transaction(db):
            for statement in _TABLES.split(";"):
                db.execute(statement)
            for name, value in (("orders", made.encode()), ("secret", secrets.token_bytes(SECRET_BYTES))):
                db.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", (name, value))
        return
    if bytes(found[0]) != made.encode():
        raise UserError(f"{path}: written by a version that accounts at other orders; use that version")


def _rows(db: sqlite3.Connection, where: str, values: tuple[str, ...] = ()) -> list[Spend]:
    names = "number, at, run, round, question, part, what, noise, rate, steps, delta"
    return [
        Spend(number, at, run, round_, question, Release(part, Mechanism(what, noise, rate, steps), delta))
        for number, at, run, round_, question, part, what, noise, rate, steps, delta in db.execute(
            f"SELECT {names} FROM spends WHERE {where} ORDER BY number", values
        )
    ]


def _known(db: sqlite3.Connection, run: str, question: str, release: Release) -> bool:
    m = release.mechanism
    row = db.execute(
        "SELECT 1 FROM spends WHERE run = ? AND question = ? AND part = ? AND what = ? AND noise = ? AND rate = ?"
        " AND steps = ? AND delta = ?",
        (run, question, release.part, m.what, m.noise, m.rate, m.steps, release.delta),
    ).fetchone()
    return row is not None


def _totals(db: sqlite3.Connection) -> dict[str, dict[str, Total]]:
    rows = db.execute(
        "SELECT run, part, curve, delta FROM totals ORDER BY (SELECT MIN(number) FROM spends WHERE run = totals.run)"
    ).fetchall()
    found: dict[str, dict[str, Total]] = {}
    for run, part, curve, delta in rows:
        found.setdefault(run, {})[part] = Total(np.frombuffer(curve, dtype="<f8").astype(np.float64), delta)
    return found


def most(parts: Iterable[Total]) -> Total:
    """An upper bound of what a patient of any of these parts has spent."""
    found = NOTHING
    for total in parts:
        found |= total
    return found


def for_life(totals: dict[str, dict[str, Total]]) -> Total:
    """What a patient has spent at most who was there in all runs."""
    found = NOTHING
    for parts in totals.values():
        found += most(parts.values())
    return found


def _require(totals: dict[str, dict[str, Total]], run: str, limits: Sequence[Limit]) -> None:
    for limit in limits:
        total = for_life(totals) if limit.for_life else most(totals[run].values())
        if (reached := total.epsilon(limit.delta)) > limit.epsilon * SLACK:
            raise BudgetError(
                f"{limit.of} allows an epsilon of {limit.epsilon:g} at delta {limit.delta:g} "
                f"{'for life' if limit.for_life else 'in this run'}; this would make {reached:.4g}"
            )


def _same(one: Total, other: Total) -> bool:
    return bool(np.allclose(one.curve, other.curve, rtol=1e-9)) and abs(one.delta - other.delta) < 1e-15
