"""Kill a site with -9 at each point of a round, then ask the same question again, for `test_killed_sites`."""

import json
import os
import shutil
import signal
import traceback
from pathlib import Path

from remind_client.engine.model_state import ModelState
from remind_client.rounds.releases import PrivateReleases
from remind_client.rounds.training import RoundTraining
from remind_client.store.history import History
from tests.builders.private_sites import private_site, question, rows


def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def then_kill(function):
    def both(*args, **kwargs):
        function(*args, **kwargs)
        kill()

    return both


# Point → what is replaced, and by what: killed before it, or after it.
POINTS = {
    "after receive": (History, "begin", kill),
    "before the spend is on disk": (PrivateReleases, "pay_for_round", kill),
    "after the spend": (PrivateReleases, "pay_for_round", then_kill(PrivateReleases.pay_for_round)),
    "before the steps": (RoundTraining, "answer", kill),
    "after the steps": (ModelState, "save", kill),
    "after the state is written": (ModelState, "save", then_kill(ModelState.save)),
    "before the answer is written": (History, "keep_answer", kill),
    "after the answer is written": (History, "keep_answer", then_kill(History.keep_answer)),
}


FOUND = "found.json"  # point → what happened


def in_a_process_of_its_own(work) -> int:
    """The signal that ended it; 0: none did, and it was not an error either."""
    if (pid := os.fork()) == 0:
        try:
            work()
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) or -os.WEXITSTATUS(status)


def folder_of(root: Path, point: str) -> Path:
    return root / point.replace(" ", "-")


def main(root: Path) -> None:
    """Write into a file what happened at each point."""
    whole = private_site(root / "whole")
    whole.enrol()
    whole.train(*question(whole, 0))
    for point in POINTS:
        shutil.copytree(root / "whole", folder_of(root, point))
    wanted = whole.train(*question(whole, 1))
    found = {}
    for point, (owner, name, replaced) in POINTS.items():
        folder = folder_of(root, point)

        def killed(owner=owner, name=name, replaced=replaced, folder=folder):
            again = private_site(folder)
            asked = question(again, 1)
            setattr(owner, name, replaced)
            again.train(*asked)

        ended = in_a_process_of_its_own(killed)
        again = private_site(folder)
        between = rows(again, "gradient")
        report, answer = again.train(*question(again, 1))
        found[point] = {
            "signal": ended,
            "paid_when_killed": between,
            "paid_at_last": rows(again, "gradient"),
            "same_bytes": bool((answer == wanted[1]).all()) and report.share == wanted[0].share,
            "problems": again.spender.ledger.problems(),
        }
    (root / FOUND).write_text(json.dumps(found))
