"""Old runs are deleted by the rule in site.toml."""

import os

import pytest

from remind.config import Config
from remind.data.synthetic.write import write_cohort
from remind_client.load import Identity, load_site
from remind_client.retention import DAY, prune
from remind_client.site_config import RetentionSection
from tests.builders import cohorts, configs
from tests.builders.site_files import write_site

NOW = 1_600_000_000.0  # long ago


def runs(folder, ages):
    """Folders of runs that were last used so many days ago, each in a file of its own."""
    for name, age in ages.items():
        (folder / name / "tokens").mkdir(parents=True)
        for path in (folder / name / "tokens" / "a", folder / name / "state.pt"):
            path.write_bytes(b"x")
        old = NOW - (age + 100) * DAY
        for path in (folder / name / "tokens" / "a", folder / name / "tokens", folder / name):
            os.utime(path, (old, old))
        os.utime(folder / name / "state.pt", (NOW - age * DAY, NOW - age * DAY))


def left(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("keep", "current", "expected"),
    [
        ({"runs": 2, "days": 7}, "", {"run-1", "run-2", "run-3"}),
        ({"runs": 1, "days": 0}, "", {"run-1"}),
        ({"runs": 4, "days": 7}, "", {"run-1", "run-2", "run-3", "run-4"}),
        ({"runs": 1, "days": 30}, "", {"run-1", "run-2", "run-3", "run-4"}),
        ({"runs": 2, "days": 0}, "run-5", {"run-5", "run-1"}),
        ({"runs": 1, "days": 0}, "run-9", set()),
    ],
)
def test_the_rule(tmp_path, keep, current, expected):
    runs(tmp_path, {"run-1": 1, "run-2": 3, "run-3": 6.9, "run-4": 8, "run-5": 90})
    gone = prune(tmp_path, RetentionSection(**keep), current, NOW)
    assert left(tmp_path) == expected
    assert set(gone) == {f"run-{i}" for i in range(1, 6)} - expected


def test_what_is_no_run_stays(tmp_path):
    runs(tmp_path, {"run-1": 90, "examined": 90})
    (tmp_path / "run-notes.txt").write_text("")
    prune(tmp_path, RetentionSection(runs=1, days=0), "run-2", NOW)
    assert left(tmp_path) == {"examined", "run-notes.txt"}


def test_a_new_run_removes_old_ones_and_the_old_runs_own_messages_do_not(tmp_path, monkeypatch):
    site = write_site(tmp_path / "site", "[vault]\nenabled = false\n[retention]\nruns = 2\ndays = 0.0")
    write_cohort(cohorts.cohort([1] * 30), site.path(site.cohort))
    site.runs_folder.mkdir(parents=True)
    runs(site.runs_folder, {"run-1": 3, "run-2": 2})
    monkeypatch.setenv("REMIND_SITE", str(tmp_path / "site"))
    identity = Identity(None, None, str(site.path(site.cohort)), str(site.runs_folder), "north")
    config = Config.from_flat(configs.settings().flat())
    load_site(identity, config, 2)
    assert left(site.runs_folder) == {"run-1", "run-2"}
    load_site(identity, config, 3)
    assert left(site.runs_folder) == {"run-2"}, "run-3 has written nothing yet"
