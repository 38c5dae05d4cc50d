"""The ledger on disk: one SQLite file of the site. A spend is written to disk before its release is computed.

If a process is killed, a release was either recorded or not computed, so the ledger never counts too little. The digest
of the question identifies a spend. A repeated question gets the same bytes, reveals nothing new, and costs nothing. A
different question in the same round is a new spend.

The same file stores the site's secret, from which noise and samples are drawn. If the ledger is lost, so is the
secret, and an old question never gets its old noise with a ledger that has no record of it.
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
from remind.privacy.accounting import ORDERS, ORDERS_VERSION, Curve, Mechanism
from remind.processes.locks import locked
from remind.processes.private_files import private_folder, write_private
from remind_client.ledger.budget import Limit, Release
from remind_client.ledger.totals import NOTHING, Total, lifetime_total, require_within, same, upper_bound

FILE = "privacy.sqlite"
PATIENCE = 60.0  # seconds to wait for the lock of another process
SECRET_BYTES = 32
_ORDERS = json.dumps({"version": ORDERS_VERSION, "orders": ORDERS}).encode()
_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS spends (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, run TEXT NOT NULL, round INTEGER, question TEXT NOT NULL,
    part TEXT NOT NULL, what TEXT NOT NULL, noise REAL NOT NULL, rate REAL NOT NULL, steps INTEGER NOT NULL,
    delta REAL NOT NULL, logged INTEGER NOT NULL DEFAULT 0, own REAL,
    UNIQUE (run, question, part, what, noise, rate, steps, delta)) STRICT;
CREATE TABLE IF NOT EXISTS totals (
    run TEXT NOT NULL, part TEXT NOT NULL, curve BLOB NOT NULL, delta REAL NOT NULL, PRIMARY KEY (run, part)) STRICT;
"""


@dataclass(frozen=True)
class Spend:
    """A row of the ledger. `round` is counted from 0; None: the release belongs to no round."""

    number: int
    at: str
    run: str
    round: int | None
    question: str
    release: Release


@dataclass(frozen=True)
class PrivacyLedger:
    """The ledger in a folder of the site. The first use creates it."""

    folder: Path

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.folder / FILE

    @property
    def secret(self) -> bytes:
        """The site's secret, which is drawn once and never sent."""
        with self._open() as db:
            return bytes(db.execute("SELECT value FROM about WHERE name = 'secret'").fetchone()[0])

    def spend(
        self, run: str, round_: int | None, question: str, releases: Sequence[Release], limits: Sequence[Limit]
    ) -> list[Release]:
        """Record releases before they are computed, all or none; return those that are new.

        Releases that this run has already paid for with the same question are not recorded again.

        Raises
        ------
        BudgetError
            A limit would be exceeded. Nothing is recorded.
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
            require_within(totals | {run: after}, run, limits)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            for release in new:
                m = release.mechanism
                row = (now, run, round_, question, release.part, m.what, m.noise, m.rate, m.steps, release.delta)
                db.execute(
                    "INSERT INTO spends (at, run, round, question, part, what, noise, rate, steps, delta, own)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*row, release.own),
                )
            for part, total in after.items():
                values = (run, part, total.curve.astype("<f8").tobytes(), total.delta)
                db.execute("INSERT OR REPLACE INTO totals VALUES (?, ?, ?, ?)", values)
        return new

    def spends(self, run: str = "") -> list[Spend]:
        """Return the rows in order; only those of one run if `run` is given."""
        if not self.path.is_file():
            return []
        with self._open() as db:
            return _rows(db, "? IN ('', run)", (run,))

    def unlogged(self) -> list[Spend]:
        """Return the rows that may be missing in the audit log because the process was killed before writing it."""
        with self._open() as db:
            return _rows(db, "logged = 0")

    def mark_logged(self, numbers: Iterable[int]) -> None:
        """Record that the audit log contains these rows."""
        with self._open() as db, _transaction(db):
            db.executemany("UPDATE spends SET logged = 1 WHERE number = ?", [(number,) for number in numbers])

    def totals(self) -> dict[str, dict[str, Total]]:
        """Return run → part → total, with runs in the order of their first spend."""
        if not self.path.is_file():
            return {}
        with self._open() as db:
            return _totals(db)

    def run_total(self, run: str) -> Total:
        """Return the total of a run: that of the part which has spent most."""
        return upper_bound(self.totals().get(run, {}).values())

    def lifetime_total(self) -> Total:
        """Return the total of all runs."""
        return lifetime_total(self.totals())

    def problems(self) -> list[str]:
        """Return problems of the file; empty if the totals are the sums of the rows."""
        sums: dict[tuple[str, str], Total] = {}
        for spend in self.spends():
            key = (spend.run, spend.release.part)
            sums[key] = sums.get(key, NOTHING) + Total(spend.release.mechanism.curve(), spend.release.delta)
        kept = {(run, part): total for run, parts in self.totals().items() for part, total in parts.items()}
        if sums.keys() != kept.keys() or any(not same(sums[key], kept[key]) for key in sums):
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
                f"{self.path}: the privacy ledger is damaged ({error}); runs that need it are refused; restore it from "
                "your newest backup: an older one counts too little"
            ) from None

    def _make(self) -> None:
        """Create the complete file atomically, so that an empty file is always a damaged ledger and never a new one.

        Raises
        ------
        OSError
            The file cannot be written.
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
    """Check that the file is a ledger, and that its curves have the orders of this version.

    Raises
    ------
    sqlite3.DatabaseError
        A table or an entry that every ledger has is missing.
    UserError
        Another version wrote the ledger.
    """
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if lacking := {"about", "spends", "totals"} - names:
        raise sqlite3.DatabaseError(f"it has no table {min(lacking)!r}")
    about = dict(db.execute("SELECT name, value FROM about").fetchall())
    if "orders" not in about or len(bytes(about.get("secret", b""))) != SECRET_BYTES:
        raise sqlite3.DatabaseError("its secret is missing")
    if bytes(about["orders"]) != _ORDERS:
        raise UserError(f"{path}: a version with other RDP orders wrote this ledger; use that version")
    if not any(column[1] == "own" for column in db.execute("PRAGMA table_info(spends)")):
        with _transaction(db):  # a ledger of before hospitals could share noise
            db.execute("ALTER TABLE spends ADD COLUMN own REAL")


def _rows(db: sqlite3.Connection, where: str, values: tuple[str, ...] = ()) -> list[Spend]:
    names = "number, at, run, round, question, part, what, noise, rate, steps, delta, own"
    rows = db.execute(f"SELECT {names} FROM spends WHERE {where} ORDER BY number", values).fetchall()
    try:
        return [
            Spend(number, at, run, round_, question, Release(part, Mechanism(what, noise, rate, steps), delta, own))
            for number, at, run, round_, question, part, what, noise, rate, steps, delta, own in rows
        ]
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"a row is not valid: {error}") from None


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
    """Decode a stored curve.

    Raises
    ------
    sqlite3.DatabaseError
        The content is not a curve.
    """
    if len(content) != 8 * len(ORDERS):
        raise sqlite3.DatabaseError("a total is truncated")
    curve = np.frombuffer(content, dtype="<f8").astype(np.float64)
    if not (curve >= 0).all():  # infinite without noise
        raise sqlite3.DatabaseError("a total is negative, or not a number")
    return curve
