"""A new version is installed on one machine after the other, as in the guide: real processes."""

import shutil

import pytest

from remind.version import VERSION
from tests.e2e.loopback import ROOT, site_command
from tests.e2e.week import ORDINARY, answered

pytestmark = pytest.mark.slow

OLD = "0.0.9"


def test_a_site_of_the_old_version_is_named_and_is_back_after_its_upgrade(week):
    old = week.home / "old"  # the version before: this one under another number
    shutil.copytree(ROOT / "remind", old / "remind", ignore=shutil.ignore_patterns("__pycache__"))
    (old / "remind" / "version.py").write_text(f'VERSION = "{OLD}"\n')
    north, south = week.enrol("north", 1), week.enrol("south", 2)
    north.start(PYTHONPATH=str(old), PYTHONSAFEPATH="1")  # this folder has a `remind`, too
    south.start()
    week.wait_healthy("with two versions: the old site stays connected")

    rounds = week.run(f"{ORDINARY} federation.min-sites=1")
    assert answered(rounds) == [["south"]]
    assert rounds[0]["refused"]["north"] == f"version {OLD}; the coordinator has {VERSION}; install the same"
    assert "incomplete: without north" in week.ended()
    assert week.healthy(), "being refused is no illness"

    node, before = week.coordinator.sites()["north"], north.audit()
    assert north.stop() == 0
    north.start()
    week.wait_healthy("after the upgrade")
    assert answered(week.run()) == [["north", "south"]]
    assert week.coordinator.sites()["north"]["node_id"] == node["node_id"], "nobody had to let it in again"
    assert north.audit()[: len(before)] == before
    assert site_command("audit", "verify", "-c", north.folder).returncode == 0
