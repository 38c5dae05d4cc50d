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
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from remind.errors import UserError
from remind.privacy.accounting import ORDERS, ORDERS_VERSION, Curve, Mechanism, epsilon, zero_curve
from remind.processes.locks import locked
from remind.processes.private_files import private_folder, write_private
from remind_client.ledger.budget import SLACK, BudgetError, Limit, Release

FILE = "privacy.sqlite"
PATIENCE = 60.0  # seconds for the lock of another process
SECRET_BYTES = 32
_ORDERS = json.dumps({"version": ORDERS_VERSION, "orders": ORDERS}).encode()
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


NOTHING = Total(zero_curve(), 0.0)


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
            self._make()
            with closing(sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)) as db:
                _require_whole(db, self.path)  # before anything is written
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                yield db
        except sqlite3.OperationalError as error:
            raise UserError(f"{self.path}: the privacy ledger cannot be used: {error}") from None
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise UserError(
                f"{self.path}: the privacy ledger is damaged ({error}); without it nothing that needs it is answered; "
                "restore it from your newest copy: an older one counts too little"
            ) from None

    def _make(self) -> None:
        """Make the file, complete or not at all: an empty one that is found later is a damaged ledger, not a new one.

        Raises
        ------
        OSError
            It cannot be written.
        """
        private_folder(self.folder)
        if self.path.exists():
            return
        with locked(self.folder / "lock"):
            if not self.path.exists():
                write_private(self.path, _new())


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


def _new() -> bytes:
    """Return the content of a new file: the tables, the orders of its curves, and the secret."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for statement in _TABLES.split(";"):
            db.execute(statement)
        for name, value in (("orders", _ORDERS), ("secret", secrets.token_bytes(SECRET_BYTES))):
            db.execute("INSERT INTO about VALUES (?, ?)", (name, value))
        return db.serialize()


def _require_whole(db: sqlite3.Connection, path: Path) -> None:
    """See that the file is a ledger, whose curves are of the orders of this version.

    Raises
    ------
    sqlite3.DatabaseError
        It lacks what every ledger has from the moment that it exists.
    UserError
        It is of another version.
    """
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if lacking := {"about", "spends", "totals"} - names:
        raise sqlite3.DatabaseError(f"it has no table {min(lacking)!r}")
    about = dict(db.execute("SELECT name, value FROM about").fetchall())
    if "orders" not in about or len(bytes(about.get("secret", b""))) != SECRET_BYTES:
        raise sqlite3.DatabaseError("its secret is missing")
    if bytes(about["orders"]) != _ORDERS:
        raise UserError(f"{path}: written by a version that accounts at other orders; use that version")


def _rows(db: sqlite3.Connection, where: str, values: tuple[str, ...] = ()) -> list[Spend]:
    names = "number, at, run, round, question, part, what, noise, rate, steps, delta"
    rows = db.execute(f"SELECT {names} FROM spends WHERE {where} ORDER BY number", values).fetchall()
    try:
        return [
            Spend(number, at, run, round_, question, Release(part, Mechanism(what, noise, rate, steps), delta))
            for number, at, run, round_, question, part, what, noise, rate, steps, delta in rows
        ]
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"a row is not what was written: {error}") from None


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
        found.setdefault(run, {})[part] = Total(_curve(curve), delta)
    return found


def _curve(content: bytes) -> Curve:
    """Return a stored curve.

    Raises
    ------
    sqlite3.DatabaseError
        It is none.
    """
    if len(content) != 8 * len(ORDERS):
        raise sqlite3.DatabaseError("a total is cut off")
    curve = np.frombuffer(content, dtype="<f8").astype(np.float64)
    if not (curve >= 0).all():  # infinite without noise
        raise sqlite3.DatabaseError("a total is negative, or no number")
    return curve


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
