"""Kill a site with -9 at each point of an answer, then ask the same question again, for `test_killed_sites`."""

import json
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from remind.config import Scalar
from remind.federation.flower import from_record
from remind.federation.messages import Enrol, Examine, Task
from remind_client.engine.model_state import ModelState
from remind_client.ledger.spender import Spender
from remind_client.rounds.releases import PrivateReleases
from remind_client.rounds.secure import SecureAnswers
from remind_client.rounds.site import Site
from remind_client.rounds.summed import SummedTraining
from remind_client.rounds.training import RoundTraining
from remind_client.store.history import History
from remind_server.rounds.strategy import FedRemind
from remind_server.simulation.local_grid import FIRST_NODE_ID
from tests.builders.grids import WireGrid
from tests.builders.joint_runs import MIXES, config, one_site, sites
from tests.builders.private_sites import examination, private_site, question, rows


def kill(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def then_kill(function: Callable[..., Any]) -> Callable[..., Any]:
    def both(*args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)
        kill()

    return both


# Point → what is replaced, and by what: killed before it, or after it.
TRAINING = {
    "after receive": (History, "begin", kill),
    "before the spend is on disk": (PrivateReleases, "pay_for_round", kill),
    "after the spend": (PrivateReleases, "pay_for_round", then_kill(PrivateReleases.pay_for_round)),
    "before the steps": (RoundTraining, "answer", kill),
    "after the steps": (ModelState, "save", kill),
    "after the state is written": (ModelState, "save", then_kill(ModelState.save)),
    "before the answer is written": (History, "keep_answer", kill),
    "after the answer is written": (History, "keep_answer", then_kill(History.keep_answer)),
}
JOINT_TRAINING = TRAINING | {
    "before the steps": (SummedTraining, "answer", kill),
    "before the masks": (SecureAnswers, "sums", kill),
    "after the masks": (SecureAnswers, "sums", then_kill(SecureAnswers.sums)),
}
EXAMINATION = {
    "before the scores are paid": (Spender, "pay", kill),
    "after the scores are paid": (Spender, "pay", then_kill(Spender.pay)),
    "before the noise of the scores": (PrivateReleases, "_noisy", kill),
    "after the noise of the scores": (PrivateReleases, "scores", then_kill(PrivateReleases.scores)),
}
ENROLMENT = {
    "before the counts are paid": (Spender, "pay", kill),
    "after the counts are paid": (Spender, "pay", then_kill(Spender.pay)),
    "after the counts": (PrivateReleases, "pay_for_counts", then_kill(PrivateReleases.pay_for_counts)),
}
UNPAID = {
    "after receive",
    "before the spend is on disk",
    "before the scores are paid",
    "before the counts are paid",
}
POINTS = {
    "site": {"train": TRAINING, "examine": EXAMINATION, "enrol": ENROLMENT},
    "joint": {"train": JOINT_TRAINING, "examine": EXAMINATION, "enrol": ENROLMENT},
}
SPENT_ON = {"train": "gradient", "examine": "scores", "enrol": "counts"}
FOUND = "found.json"  # mode, request and point → what happened
SCORES: dict[str, Scalar] = {"privacy.scores-least": 1, "privacy.scores-noise": 0.5}


@dataclass(frozen=True)
class Asked:
    """A request, the folder of the site as it was before it, and the answer of a site that was not killed."""

    before: Path | None
    ask: Callable[[Site], Any]
    wanted: Any


def in_a_process_of_its_own(work: Callable[[], Any]) -> int:
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


def trained(answer: tuple[Any, Any]) -> tuple[Any, bytes]:
    """What must be the same of an answer with tensors: all but seconds, and shares, which are drawn for each answer."""
    message, buffer = answer
    return message.model_dump(exclude={"seconds": True, "beside": {"boxes"}}), np.asarray(buffer).tobytes()


def of_a_site(root: Path) -> tuple[Callable[[Path], Site], dict[str, Asked]]:
    """A site with noise of its own: what makes it from a folder, and its requests."""

    def made(folder: Path) -> Site:
        return private_site(folder, SCORES)

    def train(site: Site) -> Any:
        return trained(site.train(*question(site, 1)))

    def examine(site: Site) -> Any:
        return site.examine(*examination(site, 2)).model_dump(exclude={"seconds"})

    def enrol(site: Site) -> Any:
        return site.enrol().model_dump()

    whole = made(root / "whole")
    enrolled = enrol(whole)
    whole.train(*question(whole, 0))
    shutil.copytree(root / "whole", root / "before train")
    answered = train(whole)
    shutil.copytree(root / "whole", root / "before examine")
    examined = examine(whole)
    assert examined["test"], "scores left"
    return made, {
        "enrol": Asked(None, enrol, enrolled),
        "train": Asked(root / "before train", train, answered),
        "examine": Asked(root / "before examine", examine, examined),
    }


class Kept(WireGrid):
    """A run in which the first site's last task, its examination and its answers are kept, and its folder before."""

    def __init__(self, several: list[Site], folder: Path, root: Path) -> None:
        super().__init__(several)
        self._folder, self._root = folder, root
        self.found: dict[str, tuple[Any, Any]] = {}  # request → its content, and the answer's

    def _work(self, message: Any) -> Any:
        request, _ = from_record(message.content)
        kind = {Enrol: "enrol", Examine: "examine"}.get(type(request), "")
        if isinstance(request, Task) and request.round == 1:
            kind = "train"
        if not kind or message.metadata.dst_node_id != FIRST_NODE_ID:
            return super()._work(message)
        if self._folder.exists():
            shutil.copytree(self._folder, self._root / f"before {kind}" / self._folder.name)
        reply = super()._work(message)
        self.found[kind] = from_record(message.content), from_record(reply.content)
        return reply


def of_a_joint_site(root: Path) -> tuple[Callable[[Path], Site], dict[str, Asked]]:
    """The first of four sites that share the noise."""
    settings, first = config(**SCORES), next(iter(MIXES))
    grid = Kept(sites(root / "whole", settings, keeps_answers=True), root / "whole" / first, root)
    FedRemind(settings).run(grid)

    def made(folder: Path) -> Site:
        return one_site(folder, settings, first, keeps_answers=True)

    def enrol(site: Site) -> Any:
        return site.enrol().model_dump()

    return made, {
        "enrol": Asked(None, enrol, grid.found["enrol"][1][0].model_dump()),
        "train": Asked(
            root / "before train",
            lambda site: trained(site.train_masked(*grid.found["train"][0])),
            trained(grid.found["train"][1]),
        ),
        "examine": Asked(
            root / "before examine",
            lambda site: trained(site.examine_masked(*grid.found["examine"][0])),
            trained(grid.found["examine"][1]),
        ),
    }


def main(root: Path) -> None:
    """Write into a file what happened at each point."""
    found = {}
    for mode, begun in {"site": of_a_site, "joint": of_a_joint_site}.items():
        made, requests = begun(root / mode)
        for request, asked in requests.items():
            for number, (point, (owner, name, replaced)) in enumerate(POINTS[mode][request].items()):
                folder, what = root / mode / f"{request} {number}", SPENT_ON[request]
                if asked.before is not None:
                    shutil.copytree(asked.before, folder)
                before = rows(made(folder), what)

                def killed(owner=owner, name=name, replaced=replaced, folder=folder, asked=asked, made=made):
                    site = made(folder)
                    setattr(owner, name, replaced)
                    asked.ask(site)

                ended = in_a_process_of_its_own(killed)
                between = rows(made(folder), what)
                again = made(folder)
                answer = asked.ask(again)
                found[f"{mode}, {request}, {point}"] = {
                    "signal": ended,
                    "paid_before": before,
                    "paid_when_killed": between,
                    "paid_at_last": rows(again, what),
                    "same": answer == asked.wanted,
                    "problems": again.spender.ledger.problems() if again.spender is not None else ["no spender"],
                }
    (root / FOUND).write_text(json.dumps(found))
