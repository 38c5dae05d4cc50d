"""The door: requests that the app never receives, and data that never leave."""

import json

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from remind.config import Config
from remind.data.cohort.cohort import TRAIN
from remind.data.cohort.read import read_cohort
from remind.data.sites.split import assign_split
from remind.data.synthetic.write import write_cohort
from remind.federation.flower import from_record, to_record
from remind.federation.messages import Enrolment, Examination, Examine, Refusal
from remind.groups import counts
from remind_client.app import app as real_app
from remind_client.audit.verify import verify
from remind_client.launcher.door import Door
from tests.builders import cohorts, configs
from tests.builders.bundles import fab
from tests.builders.doors import BUFFER, ENROL, NOON, POLICY, Recorder, ask, enrolment, task_and_report, tiny_index
from tests.builders.evaluations import evaluation
from tests.builders.site_files import asked, context, write_site

SECRET = "Anna Smith, /data/ward-7"


@pytest.fixture
def site(tmp_path):
    return write_site(tmp_path / "site", POLICY)


def test_an_enrolment_leaves_without_small_groups(site):
    recorder = Recorder(enrolment())
    answer, _ = ask(site, recorder)
    assert (answer.counts, answer.observed) == ({3: 20}, (3,))
    assert site.ledger.released(7) == {3}
    [first, second] = site.audit_log.entries()
    assert (first["event"], second["event"]) == ("asked", "answered")
    assert second["groups"] == {"enrolled": {"3": 20}}


@pytest.mark.parametrize(("line", "named"), [("", False), ("share_name = true\n", True)])
def test_an_enrolment_says_whether_the_hospital_may_be_named(tmp_path, line, named):
    strange = Recorder(enrolment(named=not named))
    answer, _ = ask(write_site(tmp_path / "site", POLICY + line), strange)
    assert answer.named is named, "by the policy, whatever the app says"


def test_a_site_with_only_small_groups_takes_no_part_and_says_no_number(site):
    answer, _ = ask(site, Recorder(enrolment(counts={5: 4}, observed=(5,))))
    assert isinstance(answer, Refusal)
    assert "4" not in answer.reason


def test_a_report_leaves_without_small_groups_and_is_logged_with_its_tensors(site):
    ask(site, Recorder(enrolment()))
    task, report = task_and_report()
    answer, buffer = ask(site, Recorder(to_record(report, BUFFER)), to_record(task, BUFFER), "train")
    assert (set(answer.train), set(answer.validation)) == ({3}, set()), "4 patients, and a group not enrolled"
    assert buffer.size == 20
    entry = list(site.audit_log.entries())[-1]
    assert entry["tensors"] == [
        {"name": "fusion.groups.3.phi", "bytes": 8},
        {"name": "fusion.head.weight", "bytes": 12},
    ]
    assert (entry["round"], entry["groups"]) == (2, {"train": {"3": 20}, "validation": {}})


def test_an_examination_leaves_without_small_groups(site):
    ask(site, Recorder(enrolment()))
    found = Examination(
        round=2, test={3: evaluation(12), 6: evaluation(30)}, validation={3: evaluation(9)}, seconds=1.0
    )
    asking = Examine(round=2, routing=True, index=())
    answer, _ = ask(site, Recorder(to_record(found)), to_record(asking, BUFFER[:0]), "evaluate")
    assert (set(answer.test), set(answer.validation)) == ({3}, set())


@pytest.mark.parametrize(
    ("answer", "buffer"),
    [
        (task_and_report()[1], np.zeros(21, np.uint8)),  # a passenger behind the tensors
        (task_and_report(index=tiny_index()[:1])[1], np.zeros(8, np.uint8)),
        (task_and_report(index=())[1], BUFFER),
        (Enrolment.model_validate(json.loads(enrolment()["message"]["json"])), None),
    ],
)
def test_an_answer_that_holds_anything_else_does_not_leave(site, answer, buffer):
    ask(site, Recorder(enrolment()))
    task, _ = task_and_report()
    reply, sent = ask(site, Recorder(to_record(answer, buffer)), to_record(task, BUFFER), "train")
    assert isinstance(reply, Refusal)
    assert sent.size == 0


@pytest.mark.parametrize(
    "answer",
    [
        RecordDict({"data": ConfigRecord({"patients": SECRET})}),
        RecordDict({**enrolment(), "extra": ConfigRecord({"patients": SECRET})}),
        RecordDict({"message": ConfigRecord({"json": json.dumps({"kind": "enrolment", "patients": SECRET})})}),
        to_record(Enrolment.model_validate(json.loads(enrolment()["message"]["json"])), BUFFER),
        RecordDict({"buffer": ArrayRecord([np.zeros(3)])}),
        RuntimeError(SECRET),
        ZeroDivisionError(SECRET),
    ],
)
def test_what_the_policy_cannot_read_does_not_leave(site, answer, caplog):
    reply, buffer = ask(site, Recorder(answer))
    assert isinstance(reply, Refusal)
    assert reply.reason.startswith("internal error")
    assert "Anna" not in reply.reason
    assert not buffer.size
    assert b"Anna" not in b"".join(p.read_bytes() for p in site.audit_log.folder.iterdir())


@pytest.mark.parametrize(
    ("bundle", "content", "kind", "settings", "words"),
    [
        (fab({"a.py": "x"}), ENROL, "query", {}, "only bundles of configuration"),
        (b"no zip", ENROL, "query", {}, "cannot be read"),
        (fab(), ENROL, "train", {}, "unknown type"),
        (fab(), RecordDict(), "query", {}, "unknown type"),
        (fab(), to_record(Refusal(reason="x")), "query", {}, "unknown type"),
        (fab(), ENROL, "query", {"train.speed": 1}, "train.speed"),
        (fab(), to_record(task_and_report()[0], BUFFER), "train", {}, "has not enrolled"),
    ],
)
def test_what_is_refused_never_reaches_the_app(site, bundle, content, kind, settings, words):
    recorder = Recorder(enrolment())
    reply, _ = ask(site, recorder, content, kind, bundle, **settings)
    assert words in reply.reason
    assert recorder.loaded == 0
    assert list(site.audit_log.entries())[-1]["reason"] == reply.reason
    assert not site.runs_folder.exists()


def test_the_site_computes_on_what_it_chose_itself(site):
    recorder = Recorder(enrolment())
    ask(site, recorder, device="cuda:7", threads=999)
    [seen] = recorder.seen
    assert (seen["device"], seen["threads"], seen["workers"]) == ("cpu", 1, 0)
    assert Config.from_flat(seen).device == "cpu"


def test_an_answer_that_cannot_be_logged_does_not_leave(site, monkeypatch, caplog):
    ask(site, Recorder(enrolment()))
    path = next(site.audit_log.folder.glob("audit-*"))
    path.write_bytes(path.read_bytes().replace(b'"north"', b'"south"').replace(b"enrolled", b"enroled!"))
    recorder = Recorder(enrolment())
    reply, _ = ask(site, recorder)
    assert isinstance(reply, Refusal)
    assert recorder.loaded == 0, "not even asked"


def test_the_real_app_behind_the_door(tmp_path):
    """Enrolment of a real cohort: what leaves is what the cohort's groups are, less the small ones."""
    site = write_site(tmp_path / "site", POLICY)
    cohort = cohorts.cohort([1] * 30 + [3] * 25 + [5] * 4 + [7] * 2)
    write_cohort(cohort, site.path(site.cohort))
    settings = configs.settings().flat()
    door = Door(site, now=lambda: NOON)
    reply = door.answer(fab(), asked(ENROL, "query"), context(site, **settings), lambda bundle: real_app)
    answer, _ = from_record(reply.content)
    assert isinstance(answer, Enrolment), answer
    split = assign_split(read_cohort(site.path(site.cohort)), 0, Config().data.validation, Config().data.test)
    training = counts(split.groups_N[split.split_N == TRAIN])
    assert answer.counts == {k: n for k, n in training.items() if n >= 10}
    assert set(answer.counts) == {1, 3}
    assert set(answer.observed) == {1, 3}
    assert verify(site.audit_log.folder).ok


def test_a_mistake_at_the_site_is_not_told_to_the_coordinator(site, caplog):
    reply = Door(site).answer(fab(), asked(ENROL, "query"), context(site), lambda bundle: real_app)
    answer, _ = from_record(reply.content)
    assert isinstance(answer, Refusal)
    assert "cohort or settings are not valid" in answer.reason
    assert str(site.path(site.cohort)) not in answer.reason
    assert "cohort.toml" in caplog.text
