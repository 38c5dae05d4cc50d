"""The privacy ledger: spends add as the accountant says, once for each question, and never beyond a limit."""

import json
import signal
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from remind.errors import UserError
from remind.privacy.accounting import Mechanism, compose, epsilon
from remind_client.ledger.budget import TEST, TRAINING, VALIDATION, BudgetError, Limit, Release
from remind_client.ledger.spends import PrivacyLedger

DELTA = 1e-5
STEP = Mechanism("gradient", 2.0, 0.25, 10)
TRAIN = Release(TRAINING, STEP)


@pytest.fixture
def ledger(tmp_path):
    return PrivacyLedger(tmp_path / "privacy")


def spend(ledger, run="7", round_=0, question="a", releases=(TRAIN,), limits=()):
    return ledger.spend(run, round_, question, releases, limits)


def test_rounds_add_as_the_accountant_says(ledger):
    for round_ in range(5):
        spend(ledger, round_=round_, question=str(round_))
    assert ledger.run_total("7").epsilon(DELTA) == pytest.approx(epsilon(5 * STEP.curve(), DELTA))
    assert [row.round for row in ledger.spends()] == [0, 1, 2, 3, 4]
    assert ledger.problems() == []


def test_the_same_question_is_paid_once_and_another_one_for_that_round_again(ledger):
    assert spend(ledger) == [TRAIN]
    assert spend(ledger) == []
    assert spend(PrivacyLedger(ledger.folder)) == [], "in another process too"
    assert spend(ledger, question="b") == [TRAIN]
    assert spend(ledger, run="8") == [TRAIN], "another run has other noise"
    assert len(ledger.spends()) == 3


def test_a_question_that_releases_more_than_before_pays_for_what_is_new(ledger):
    losses = Release(TRAINING, Mechanism("losses", 9.0))
    spend(ledger)
    assert spend(ledger, releases=(TRAIN, losses)) == [losses]


def test_parts_are_other_patients_within_a_run_and_may_be_the_same_in_another(ledger):
    counts, test = Mechanism("counts", 5.0), Mechanism("histogram", 3.0)
    spend(ledger, question="a", releases=[Release(TRAINING, STEP), Release(TRAINING, counts)])
    spend(ledger, question="b", releases=[Release(TEST, test), Release(VALIDATION, counts)])
    training, tested = compose([STEP, counts]), test.curve()
    assert ledger.run_total("7").epsilon(DELTA) == pytest.approx(max(epsilon(training, DELTA), epsilon(tested, DELTA)))
    spend(ledger, run="8", releases=[Release(TEST, test)])
    life = ledger.lifetime_total().epsilon(DELTA)
    assert life >= epsilon(training + tested, DELTA), "a patient trained on in one run and tested on in the other"
    assert life <= epsilon(compose([STEP, counts, test, test]), DELTA) + 1e-9


def test_a_limit_is_kept_to_the_last_step_that_fits_and_the_refused_one_leaves_no_trace(ledger):
    limit = [Limit("policy.privacy.epsilon_per_run", epsilon(3 * STEP.curve(), DELTA), DELTA)]
    for round_ in range(3):
        spend(ledger, round_=round_, question=str(round_), limits=limit)
    with pytest.raises(BudgetError, match=r"policy\.privacy\.epsilon_per_run allows"):
        spend(ledger, round_=3, question="3", limits=limit)
    assert len(ledger.spends()) == 3
    assert spend(ledger, round_=1, question="1", limits=limit) == [], "what was paid for is still answered"
    assert spend(ledger, run="8", limits=limit), "another run has a budget of its own"


def test_the_limit_for_life_is_over_all_runs(ledger):
    limit = [Limit("policy.privacy.epsilon_for_life", epsilon(3 * STEP.curve(), DELTA), DELTA, for_life=True)]
    for run in "123":
        spend(ledger, run=run, limits=limit)
    with pytest.raises(BudgetError, match="for life"):
        spend(ledger, run="4", limits=limit)


def test_all_releases_of_a_question_are_entered_or_none(ledger):
    limit = [Limit("privacy.epsilon", epsilon(STEP.curve(), DELTA), DELTA)]
    with pytest.raises(BudgetError):
        spend(ledger, releases=[TRAIN, Release(TRAINING, Mechanism("losses", 1.0))], limits=limit)
    assert ledger.spends() == []


def test_a_release_without_noise_fits_no_budget(ledger):
    with pytest.raises(BudgetError, match="inf"):
        spend(ledger, releases=[Release(TRAINING, Mechanism("gradient", 0.0))], limits=[Limit("x", 1e9, DELTA)])


def test_thresholds_take_their_share_of_delta(ledger):
    counts = Release(TRAINING, Mechanism("counts", 5.0), delta=4e-6)
    spend(ledger, releases=[counts])
    assert ledger.run_total("7").epsilon(DELTA) == pytest.approx(epsilon(counts.mechanism.curve(), 6e-6))
    assert ledger.run_total("7").epsilon(4e-6) == float("inf")


def test_two_processes_never_spend_the_same_budget_twice(ledger):
    limit = [Limit("x", epsilon(5 * STEP.curve(), DELTA), DELTA)]
    STEP.curve()

    def one(number):
        try:
            return len(spend(ledger, question=str(number), limits=limit))
        except BudgetError:
            return 0

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(20))) == 5
    assert len(ledger.spends()) == 5


KILLED = """
import os, signal, sys
from pathlib import Path
from remind.privacy.accounting import Mechanism
from remind_client.ledger import spends
from remind_client.ledger.budget import Release, TRAINING
ledger, point = spends.PrivacyLedger(Path(sys.argv[1])), sys.argv[2]
kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
release = [Release(TRAINING, Mechanism("gradient", 2.0))]
ledger.spend("7", 0, "first", release, ())
if point == "before":
    spends.require_within = kill
if point == "within":
    real = spends.sqlite3.connect
    class Db(spends.sqlite3.Connection):
        def execute(self, sql, *rest):
            kill() if sql == "COMMIT" else None
            return super().execute(sql, *rest)
    spends.sqlite3.connect = lambda *a, **k: real(*a, **k, factory=Db)
ledger.spend("7", 1, "second", release, ())
kill()
"""


@pytest.mark.parametrize(("point", "rows"), [("before", 1), ("within", 1), ("after", 2)])
def test_a_killed_process_has_spent_all_of_it_or_nothing(ledger, point, rows):
    done = subprocess.run([sys.executable, "-c", KILLED, str(ledger.folder), point], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(ledger.spends()) == rows
    assert ledger.problems() == []
    release = [Release(TRAINING, Mechanism("gradient", 2.0))]
    assert len(ledger.spend("7", 1, "second", release, ())) == 2 - rows, "done again, it is paid if it was not"


def test_the_secret_is_drawn_once_and_only_the_owner_reads_it(ledger):
    secret = ledger.secret
    assert len(secret) == 32
    assert PrivacyLedger(ledger.folder).secret == secret
    assert PrivacyLedger(ledger.folder.parent / "other").secret != secret
    for file in (ledger.folder, *ledger.folder.iterdir()):
        assert not stat.S_IMODE(file.stat().st_mode) & 0o077, file


def test_looking_at_a_ledger_that_is_not_there_creates_none(ledger):
    assert (ledger.spends(), ledger.totals(), ledger.run_total("7").epsilon(DELTA)) == ([], {}, 0.0)
    assert not ledger.folder.exists()


def test_a_damaged_file_is_one_message(ledger):
    spend(ledger)
    ledger.path.write_bytes(b"not a database" * 1000)
    for wal in ledger.folder.glob("*-wal"):
        wal.unlink()
    with pytest.raises(UserError, match="damaged"):
        spend(ledger, question="b")


@pytest.mark.parametrize("left", [0, 100, 4096])
def test_a_file_that_is_empty_or_cut_off_is_damaged_and_not_a_new_ledger(ledger, left):
    spend(ledger)
    for other in ledger.folder.glob("*-*"):
        other.unlink()
    ledger.path.write_bytes(ledger.path.read_bytes()[:left])
    for use in (lambda: spend(ledger, question="b"), lambda: ledger.secret, ledger.spends, ledger.totals):
        with pytest.raises(UserError, match=r"privacy\.sqlite: the privacy ledger is damaged"):
            use()
    assert ledger.path.stat().st_size == left, "nothing was put in its place"


MAKING = """
import os, signal, sys
from pathlib import Path
from remind_client.ledger import spends
ledger = spends.PrivacyLedger(Path(sys.argv[1]))
real = os.replace
os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
ledger.secret
"""


def test_a_process_that_is_killed_while_it_makes_the_file_leaves_none(ledger):
    done = subprocess.run([sys.executable, "-c", MAKING, str(ledger.folder)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert not ledger.path.exists()
    assert spend(ledger) == [TRAIN]


def test_totals_that_were_changed_are_found(ledger):
    spend(ledger)
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE totals SET curve = ?", (bytes(8 * len(STEP.curve())),))
    assert "not the sums" in ledger.problems()[0]


def test_a_ledger_of_other_orders_is_refused(ledger):
    spend(ledger)
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE about SET value = ? WHERE name = 'orders'", (json.dumps({"version": 0}).encode(),))
    with pytest.raises(UserError, match="other RDP orders"):
        spend(ledger, question="b")


def test_a_ledger_of_before_hospitals_could_share_noise_is_read_and_goes_on(tmp_path):
    ledger = PrivacyLedger(tmp_path)
    ledger.spend("r", 0, "q", [Release(TRAINING, Mechanism("gradient", 2.0))], [])
    with closing(sqlite3.connect(ledger.path)) as db:
        db.execute("ALTER TABLE spends DROP COLUMN own")
        db.commit()
    assert [row.release.own for row in ledger.spends()] == [None]
    ledger.spend("r", 1, "q2", [Release(TRAINING, Mechanism("gradient", 2.0), own=1.0)], [])
    assert [row.release.own for row in ledger.spends()] == [None, 1.0]
    assert ledger.problems() == []
