"""A week of a consortium with real processes: it recovers from every failure without help.

Sites are `remind-site run`, the coordinator is `remind consortium serve`. Every wait is for a condition.
"""

import json
import os
import resource
import signal
import textwrap
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from remind_server.consortium.authority import certificate_pem, issue_server, key_pem, load_key, new_key
from remind_server.consortium.certificates import load_certificates
from remind_server.consortium.folder import write_file
from tests.e2e.loopback import Hospital
from tests.e2e.week import ORDINARY, Week, answered
from tests.machine import until

pytestmark = pytest.mark.slow

LIAR = """
    import importlib.abc, importlib.util, sys

    class Lying(importlib.abc.MetaPathFinder):
        '''The site's door, which multiplies what leaves by a million.'''

        def find_spec(self, name, path, target=None):
            if name != "remind_client.launcher.door":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                honest = module.to_record

                def to_record(reply, buffer=None):
                    if buffer is not None and reply.kind == "report":
                        buffer = (buffer.view("float32") * 1e6).view("uint8")
                    return honest(reply, buffer)

                module.to_record = to_record

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Lying())
"""


def pid_of(site: Hospital, program: str) -> int:
    return int(site.ask("status")[1]["processes"][program]["pid"])


def not_ready(site: Hospital) -> bool:
    return site.ask("ready")[0] == 503


def test_a_week(week):
    north, south = week.enrol("north", 1), week.enrol("south", 2)
    for site in (north, south):
        site.start()
    week.wait_healthy("in the beginning")
    both = [["north", "south"]]
    assert answered(week.run()) == both

    # A site that one of these had poisoned would not get to the moment of the next, or would be missing afterwards.
    abort(week, north, f"{ORDINARY} model.width=256", fetching)
    abort(week, north, "train.warmup-rounds=2 train.routing-rounds=1 train.local-steps=250", training)
    killed_server_app(week, north)
    assert answered(week.run()) == both, "after runs that were stopped while fetched and while trained, and one killed"

    os.kill(pid_of(north, "supernode"), signal.SIGSTOP)
    alone = week.run(f"{ORDINARY} federation.deadline=20.0 federation.min-sites=1")
    assert answered(alone) == [["south"]], "a stuck site costs the others nothing"
    os.kill(pid_of(south, "worker"), signal.SIGSTOP)
    full_disk(week)
    expired_certificate(week)
    week.wait_healthy("after a stuck SuperNode, a stuck worker, a full disk and an expired certificate")
    assert answered(week.run()) == both

    liar_and_late_joiner(week, south)
    week.wait_healthy("at the end of the week")


def abort(week: Week, site: Hospital, settings: str, moment) -> None:
    """Stop a run at a moment of a site."""
    before = site.log.read_text().count("Receiving: train")
    run_id, _ = week.begin(settings)
    until(lambda: moment(site, run_id, before), f"{moment.__name__} of run {run_id}", 120)
    week.stop(run_id)


def fetching(site: Hospital, run_id: str, before: int) -> bool:
    return site.log.read_text().count("Receiving: train") > before


def training(site: Hospital, run_id: str, before: int) -> bool:
    return any(e.get("run") == run_id and e.get("request") == "train" for e in site.audit())


def killed_server_app(week: Week, site: Hospital) -> None:
    """Kill the ServerApp of a run under way; Flower notices, within a minute."""
    before = site.log.read_text().count("Receiving: train")
    run_id, _ = week.begin("train.warmup-rounds=2 train.routing-rounds=1 train.local-steps=250")
    until(lambda: fetching(site, run_id, before), "a round under way", 120)
    mark = f"FLWR_HOME={week.coordinator.folder.flower_home}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = mark in (process / "environ").read_bytes().split(b"\0")
            if ours and b"flwr-serverapp" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:  # gone meanwhile
            continue
    until(lambda: week.coordinator.ended(run_id), "Flower notices", 120)


def full_disk(week: Week) -> None:
    """No file of the SuperLink may grow any more, as on a full disk: its database fails, it answers with HTTP 500."""
    superlink = week.coordinator.pids()["superlink"]
    before = resource.prlimit(superlink, resource.RLIMIT_FSIZE)
    resource.prlimit(superlink, resource.RLIMIT_FSIZE, (1, before[1]))
    for name, site in week.sites.items():
        until(partial(not_ready, site), f"{name} says that it is not ready", 120)
    resource.prlimit(superlink, resource.RLIMIT_FSIZE, before)
    until(lambda: week.sites["north"].ask("ready")[0] == 200, f"north is back by itself: {week.logs()}", 150)


def expired_certificate(week: Week) -> None:
    """The server certificate runs out, and is renewed once somebody has noticed."""
    folder, c = week.coordinator.folder, week.coordinator
    key, past = new_key(), datetime.now(UTC) - timedelta(days=400)
    signing = load_key(folder.ca_key.read_bytes(), None, "key")
    expired = issue_server(
        key.public_key(), ["localhost"], signing, load_certificates(folder.ca_certificate)[0], 365, past
    )
    write_file(folder.server, key_pem(key, None) + certificate_pem(expired))
    for name, site in week.sites.items():
        until(partial(not_ready, site), f"{name} says that it is not ready", 120)
    c("renew", c.where)


def liar_and_late_joiner(week: Week, south: Hospital) -> None:
    """A site that multiplies its update by a million is named and excluded; a site that joins late takes part."""
    assert south.stop(60) == 0
    lies = week.home / "lies"
    lies.mkdir()
    (lies / "sitecustomize.py").write_text(textwrap.dedent(LIAR))
    south.start(PYTHONPATH=str(lies))
    late = week.enrol("late", 3)
    week_without = {name: site for name, site in week.sites.items() if name != "late"}
    until(lambda: all(s.ask("ready")[0] == 200 for s in week_without.values()), "both ready", 120)
    run_id, out = week.begin("train.warmup-rounds=5 train.routing-rounds=0 train.local-steps=2 federation.min-sites=1")
    until((out / "rounds.jsonl").exists, f"first round: {week.logs()}", 240)
    late.start()
    until(lambda: week.coordinator.ended(run_id), f"end of run {run_id}", 300)
    rounds = [json.loads(line) for line in (out / "rounds.jsonl").open()]
    assert all("south" not in r["answered"] and "update" in r["absent"]["south"] for r in rounds), rounds[0]["absent"]
    assert "late" in rounds[-1]["answered"]
    assert south.stop(60) == 0
    south.start()
