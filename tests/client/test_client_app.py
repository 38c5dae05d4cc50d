"""Error details leave a site in a simulation, and never leave a real hospital."""

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict

from remind.data.synthetic.write import write_cohort
from remind.federation.flower import from_record, to_record
from remind.federation.messages import Enrol, Enrolment, Refusal, Task
from remind.version import VERSION
from remind_client import app as app_module
from remind_client.app import app
from remind_client.load import Identity, load_site
from remind_server.simulation.local_grid import LocalGrid
from tests.builders.cohorts import cohort
from tests.builders.configs import settings

SECRET = "patient p-4711, potassium 7.9"
ENROL = to_record(Enrol(version=VERSION))


@pytest.fixture(autouse=True)
def _identity():
    LocalGrid(app, 0, {}, run_id=1)  # stamps messages


@pytest.fixture
def hospital(tmp_path):
    """Node config of a real hospital, with a cohort on its disk."""
    write_cohort(cohort([1, 2, 3] * 8), tmp_path / "secret-ward")
    return {"cohort": str(tmp_path / "secret-ward"), "state-dir": str(tmp_path / "state"), "site": "St Mary"}


@pytest.fixture
def virtual(tmp_path):
    return {"partition-id": 0, "num-partitions": 2}


def ask(node_config, content=ENROL, kind="query", run_id=1, **changes):
    config = settings({"synthetic.patients": 60} | changes)
    context = Context(run_id, 2, node_config, RecordDict(), config.flat())
    reply = app(Message(content, 2, kind), context)
    assert not reply.has_error()
    return from_record(reply.content)[0]


def refusal(*args, **changes) -> str:
    found = ask(*args, **changes)
    assert isinstance(found, Refusal)
    return found.reason


class Broken:
    """A site in which something raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def enrol(self):
        raise self.error


def test_both_kinds_of_site_enrol(hospital, virtual):
    real, made_up = ask(hospital), ask(virtual)
    assert isinstance(real, Enrolment)
    assert isinstance(made_up, Enrolment)
    assert (real.site, made_up.site) == ("St Mary", "site-1")
    assert real.observed == (1, 2, 3)
    assert sum(real.counts.values()) == 12, "the cohort's own split: half of them train"


def test_only_files_of_a_real_hospital_are_flushed_to_the_disk(hospital, virtual, tmp_path):
    config = settings({"synthetic.patients": 60, "results": str(tmp_path / "run")})
    assert load_site(Identity.of(hospital), config, 1).store.vault.durable
    assert not load_site(Identity.of(virtual), config, 1).store.vault.durable


@pytest.mark.parametrize("error", [KeyError(SECRET), ValueError(SECRET), RuntimeError(SECRET), OSError(2, SECRET)])
def test_an_unknown_exception_is_scrubbed_at_a_hospital_and_shown_in_a_simulation(
    error, hospital, virtual, monkeypatch, caplog
):
    monkeypatch.setattr(app_module, "load_site", lambda *_: Broken(error))
    words = refusal(hospital, run_id=2)
    assert words == f"internal error ({type(error).__name__}); the site's own log says more"
    assert SECRET in caplog.text, "the hospital's own log has it"
    assert SECRET in refusal(virtual, run_id=2)


def test_a_mistake_is_told_to_the_researcher_and_kept_at_the_hospital(hospital, virtual, tmp_path, caplog):
    lost = {**hospital, "cohort": str(tmp_path / "lost-ward")}
    words = refusal(lost)
    assert "lost-ward" not in words
    assert str(tmp_path) not in words
    assert words == "the site's cohort or settings are not valid; its own log says why"
    assert "lost-ward" in caplog.text
    assert "lost-ward" in refusal(virtual, **{"data.cohort": str(tmp_path / "lost-ward")})


def test_a_spoilt_cohort_says_nothing_of_its_values(hospital, tmp_path):
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    (spoilt / "cohort.toml").write_text('[label]\nclasses = ["no", "yes"]\n[modalities.a]\nkind = "table"\n')
    (spoilt / "patients.csv").write_text("patient_id,label\nAnna Smith,no\nAnna Smith,9\n")
    words = refusal({**hospital, "cohort": str(spoilt)})
    assert "Anna" not in words
    assert "9" not in words


@pytest.mark.parametrize("missing", ["cohort", "state-dir"])
def test_a_hospital_that_forgot_a_setting_takes_no_part(hospital, missing, caplog):
    """Without its cohort it must not pass for a virtual hospital, which trains on artificial patients."""
    del hospital[missing]
    assert refusal(hospital) == "the site's cohort or settings are not valid; its own log says why"
    assert f"{missing} is missing" in caplog.text


@pytest.mark.parametrize(
    ("kind", "content", "error"),
    [
        ("query", RecordDict(), "ValueError"),
        ("train", ENROL, "ValueError"),
        ("evaluate", ENROL, "ValueError"),
        ("train", to_record(Refusal(reason=SECRET)), "PeerRefusedError"),
    ],
)
def test_messages_that_make_no_sense_are_refused(kind, content, error, hospital, virtual):
    assert refusal(hospital, content, kind) == f"internal error ({error}); the site's own log says more"
    assert error in refusal(virtual, content, kind)


def test_a_task_for_groups_the_site_does_not_observe_is_refused(hospital):
    task = Task(
        round=0,
        stage=1,
        stage_round=0,
        stage_rounds=1,
        seed=0,
        weights={5: 1.0},
        counts={5: 9},
        block_weights={},
        index=(),
    )
    assert "internal error" in refusal(hospital, to_record(task, np.empty(0, np.uint8)), "train")


def test_words_of_any_length_fit_into_a_refusal(virtual, monkeypatch):
    monkeypatch.setattr(app_module, "load_site", lambda *_: Broken(ValueError("x" * 10_000)))
    assert 1900 < len(refusal(virtual, run_id=3)) <= 2000


def test_sites_stay_loaded_within_a_run_and_leave_with_it(virtual):
    app_module._sites.clear()
    ask(virtual, run_id=11)
    (first,) = app_module._sites.values()
    ask(virtual, run_id=11)
    assert list(app_module._sites.values()) == [first]
    ask({**virtual, "partition-id": 1}, run_id=11)
    assert len(app_module._sites) == 2
    ask(virtual, run_id=12)
    assert [key[0] for key in app_module._sites] == [12]
