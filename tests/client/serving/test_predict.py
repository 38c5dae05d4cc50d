"""The service gives the predictions of `remind predict`; a mistake of one patient affects only that patient."""

import base64
import json
import math
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from remind.data.cohort.kinds.codes import Codes, CodesSchema
from remind.data.cohort.kinds.pictures import Files, ImageSchema, Reading
from remind.data.cohort.kinds.table import Table, TableKind
from remind.data.cohort.kinds.text import TextSchema
from remind.data.cohort.modality_schema import ModalitySchema
from remind.data.cohort.schema import CohortSchema
from remind.prediction.next_test import NextTest, held_out
from remind.prediction.predictor import load
from remind_client.serving import patients as intake
from remind_client.serving import request as requests
from remind_client.serving.app import Limits
from remind_client.serving.patients import Intake
from tests.builders.served import as_json, service, shuffled


def test_a_patient_gets_what_predict_says_to_the_last_digit(run, asked):
    folder, patients = run
    of = patients["north"]
    rows = range(len(of))
    answer = asked.ask(*(as_json(of, i) for i in rows))
    assert answer.status_code == 200, answer.text
    expected = load(folder, "north", least=5).outputs(of)
    assert answer.json()["model"]["site"] == "north"
    for i, own in enumerate(answer.json()["predictions"]):
        assert own["id"] == of.patient_id_N[i]
        assert own["status"] == "ok"
        assert list(own["probabilities"].values()) == expected.p_NC[i].tolist()
        assert own["decision"] == of.schema.classes[expected.decision_N[i]]
        assert own["train_n"] == expected.train_N[i]
        assert own["reasons"] == list(expected.reasons_N[i])


def test_order_inside_a_patient_does_not_matter(run, asked):
    patient = as_json(run[1]["north"], 2)
    first, second = (asked.ask(one).json()["predictions"] for one in (patient, shuffled(patient)))
    assert first == second


MISTAKES = {
    "unknown column": ({"a": {"p": 1.0, "pp": 2.0}}, r"a\.pp: the model has no such column.*p"),
    "text for a number": ({"a": {"p": "high"}}, r"a\.p: is the text 'high'; give a number"),
    "number as text": ({"a": {"p": "1.5"}}, r"a\.p: is the text '1.5'; give a number"),
    "unknown level": ({"a": {"p": 1.0, "q": "medium"}}, r"a\.q: 'medium' is not a level; give one of lo, hi"),
    "level of another type": ({"a": {"q": ["lo"]}}, r"a\.q: is a list; give one of"),
    "extra modality": ({"a": {"p": 1.0}, "mri": {"x": 1}}, r"mri: the model has no such modality; it has a, b, c"),
    "empty patient": ({}, r"has no modality"),
    "all missing": ({"a": {"p": None}}, r"has no modality"),
    "table as a list": ({"a": [1.0, 2.0]}, r"a: is a list; a table is"),
    "series as a table": ({"b": {"u": 1.0}}, r"b: is an object; a series is a list"),
    "series without time": ({"b": [{"item": "u", "value": 1.0}]}, r"b\[0\]: give hours, item and value"),
    "unknown item": ({"b": [{"hours": 1, "item": "w", "value": 1}]}, r"b\[0\]\.item: 'w' is not an item"),
    "after the horizon": ({"b": [{"hours": 90, "item": "u", "value": 1}]}, r"b\[0\]\.hours: 90 is outside 0 to 24"),
    "too large": ({"a": {"p": 1e300}}, r"a\.p: is not a finite number"),
    "huge whole number": ({"a": {"p": 10**400}}, r"a\.p: is not a finite number"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_patient_is_told_so_and_the_others_are_served(run, asked, name):
    modalities, message = MISTAKES[name]
    good = as_json(run[1]["north"], 0)
    answer = asked.ask(good, {"id": "wrong", "modalities": modalities}, {**good, "id": "last"})
    assert answer.status_code == 200, answer.text
    first, wrong, last = answer.json()["predictions"]
    assert [first["status"], last["status"]] == ["ok", "ok"]
    alone = asked.ask(good).json()["predictions"][0]["probabilities"]
    assert first["probabilities"] == pytest.approx(alone, abs=1e-6)
    assert last["probabilities"] == pytest.approx(alone, abs=1e-6)
    assert wrong["id"] == "wrong"
    assert wrong["status"] != "ok"
    assert wrong["probabilities"] is wrong["decision"] is None

    assert re.search(message, wrong["status"]), wrong["status"]
    assert asked.audited == [(3, 1), (1, 0)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("p1", "patient: "),
        ({"id": "x"}, "modalities: Field required"),
        ({"modalities": {}}, "id: Field required"),
        ({"id": "", "modalities": {}}, "id: is empty"),
        ({"id": "x", "modalities": {}, "label": 1}, "label: no such field"),
        ({"id": "x", "modalities": [1]}, "modalities: "),
    ],
)
def test_a_patient_of_another_form_is_told_so_alone(run, asked, given, message):
    good, wrong = asked.ask(as_json(run[1]["north"], 0), given).json()["predictions"]
    assert good["status"] == "ok"
    assert wrong["status"].startswith(message)


def test_an_id_twice_is_served_once(run, asked):
    good = as_json(run[1]["north"], 0)
    first, second = asked.ask(good, good).json()["predictions"]
    assert first["status"] == "ok"
    assert "occurs twice" in second["status"]


def test_a_wrong_unit_is_suspected_and_served(run, asked):
    good = as_json(run[1]["north"], 0)
    good["modalities"]["a"]["p"] = 1000.0
    own = asked.ask(good).json()["predictions"][0]
    assert own["status"] == "ok"
    assert not own["trusted"]
    assert any(reason.startswith("a.p = 1000 lies far outside") for reason in own["reasons"])


def test_an_unseen_combination_is_served_with_its_reason(asked):
    own = asked.ask({"id": 7, "modalities": {"c": {"p": 0.1}}}).json()["predictions"][0]
    assert own["id"] == "7"
    assert own["status"] == "ok"
    assert any("unseen combination" in reason for reason in own["reasons"])


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "is not JSON"),
        (b"[" * 100_000, 400, "is not JSON"),
        (b"[]", 400, "request: "),
        (b'{"patient": []}', 400, "patients: Field required"),
        (b'{"patients": []}', 400, "patients: the list is empty"),
        (json.dumps({"patients": [{}] * 4}).encode(), 413, "patients: 4 are more than the limit of 3"),
        (b'{"patients": ["' + b"x" * 5000 + b'"]}', 413, "larger than 4000 bytes"),
    ],
)
def test_what_is_no_request_is_refused_whole(run, body, status, message):
    small = service(run[0], limits=Limits(request_bytes=4000, patients=3))
    answer = small.client.post("/predict", content=body if len(body) < 9000 else body[:3000])
    assert answer.status_code == status
    assert message in answer.json()["detail"]


def test_a_request_for_another_schema_is_refused(run, asked):
    good = as_json(run[1]["north"], 0)
    mine = asked.client.get("/model").json()["fingerprint"]
    assert asked.ask(good, fingerprint=mine).status_code == 200
    other = asked.ask(good, fingerprint="0" * 64)
    assert other.status_code == 409
    assert "GET /schema" in other.json()["detail"]


def test_the_form_says_what_the_model_takes(asked):
    form = asked.client.get("/schema").json()
    patient = form["properties"]["patients"]["items"]["properties"]["modalities"]["properties"]
    assert set(patient) == {"a", "b", "c"}
    assert patient["a"]["properties"]["q"] == {"enum": ["lo", "hi", None]}
    assert patient["b"]["items"]["properties"]["item"] == {"enum": ["u", "v"]}


SCHEMA = CohortSchema(
    name="kinds",
    classes=("no", "yes"),
    modalities=(
        CodesSchema(name="codes", vocabulary=("I21", "I10", "030")),
        TextSchema(name="note"),
        ImageSchema(name="xray", size=(8, 8), channels=1),
    ),
)


def taken(tmp_path, *modalities, files=None):
    patients = [{"id": i, "modalities": own} for i, own in enumerate(modalities)]
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    return Intake(SCHEMA, uploads, files, {"xray": Reading(resize=True)}).cohort(patients)


def test_codes_and_notes_are_read_as_from_a_cohorts_files(tmp_path):
    cohort, problems = taken(
        tmp_path, {"codes": ["I10", "I21", "I10", ""]}, {"note": "He coughs."}, {"note": "n/a"}, {"codes": ["30"]}
    )
    assert problems.keys() == {3}
    assert "'30' is not in the model's vocabulary" in problems[3]
    assert cohort.modalities["codes"].take(np.array([0])) == Codes(np.array([0, 2]), np.array([0, 1]), ("I10", "I21"))
    assert cohort.groups_N.tolist() == [1, 2, 0, 0]


def test_a_picture_comes_as_bytes_or_from_the_folder_of_files(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    Image.new("L", (10, 10), 99).save(files / "a.png")
    Image.new("L", (10, 10), 99).save(tmp_path / "outside.png")
    (files / "link.png").symlink_to(tmp_path / "outside.png")
    content = base64.b64encode((files / "a.png").read_bytes()).decode()
    cohort, problems = taken(
        tmp_path,
        {"xray": {"base64": content, "name": "x.png"}},
        {"xray": {"path": "a.png"}},
        {"xray": {"path": "../outside.png"}},
        {"xray": {"path": "link.png"}},
        {"xray": {"path": str(tmp_path / "outside.png")}},
        {"xray": {"path": "\0"}},
        {"xray": {"base64": base64.b64encode(b"no picture").decode()}},
        {"xray": {"base64": "???"}},
        {"xray": {"base64": content, "path": "a.png"}},
        files=files,
    )
    assert problems.keys() == {2, 3, 4, 5, 6, 7, 8}
    assert all("no such file in the folder of --files" in problems[i] for i in (2, 3, 4, 5))
    assert cohort.groups_N.tolist() == [4, 4, *[0] * 7]
    assert isinstance(cohort.modalities["xray"], Files)


def test_without_a_folder_of_files_no_path_is_read(tmp_path):
    _, problems = taken(tmp_path, {"xray": {"path": "/etc/passwd"}})
    assert "without --files" in problems[0]


def test_numbers_are_those_of_a_file(run, asked):
    good = as_json(run[1]["north"], 0)
    assert not math.isnan(asked.ask(good).json()["predictions"][0]["probabilities"]["c0"])
    flag = {"id": "b", "modalities": {"a": {"p": True}}}
    one = {"id": "b", "modalities": {"a": {"p": 1}}}
    assert asked.ask(flag).json() == asked.ask(one).json()


def test_the_next_test_is_answered_where_it_is_asked_for(run):
    folder, patients = run
    of = patients["north"]
    reference = held_out(of)
    asked = service(folder, learns=lambda predictor: NextTest(predictor, reference, least=8))
    rows = [as_json(of, i) for i in range(9)]
    assert all(one["next_tests"] is None for one in asked.ask(*rows).json()["predictions"])
    answer = asked.ask(*rows[:4], {"id": "w", "modalities": {"mri": {}}}, *rows[4:], next_test=True)
    assert answer.status_code == 200, answer.text
    found = answer.json()["predictions"]
    predictor = load(folder, "north", least=5)
    expected = NextTest(predictor, reference, least=8).table(of.take(range(9)))
    assert found[4]["next_tests"] == []
    said = [(one["id"], test) for one in found for test in one["next_tests"]]
    assert [(i, test["test"], test["status"]) for i, test in said] == list(
        zip(expected["patient_id"], expected["test"], expected["status"], strict=True)
    )
    known = [test for _, test in said if test["status"] == "ok"]
    assert known
    mean = expected[expected["status"] == "ok"]["change"].tolist()
    assert [test["change"]["mean"] for test in known] == pytest.approx(mean, rel=1e-5)
    assert all(test["gain"] is None for _, test in said if test["status"] != "ok")


def test_a_service_without_patients_says_so(asked, run):
    answer = asked.ask(as_json(run[1]["north"], 0), next_test=True)
    assert answer.status_code == 503
    assert "this service has no reference patients" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("patient", "words"),
    [
        ({"id": True, "modalities": {"a": {"p": 1.0}}}, "id: is True; give a text or a whole number"),
        ({"id": 1.5, "modalities": {"a": {"p": 1.0}}}, "id: is 1.5; give a text or a whole number"),
        ({"id": None, "modalities": {"a": {"p": 1.0}}}, "id: is empty"),
        ({"id": "", "modalities": {"a": {"p": 1.0}}}, "id: is empty"),
        ({"id": [1], "modalities": {}}, "id: is a list"),
        ("x", "patient: is a text; a patient is {id, modalities}"),
        (None, "patient: is None; a patient is"),
        ({"id": "\ud800", "modalities": {"a": {"p": 1.0}}}, "half of a surrogate pair"),
        ({"id": "1", "modalities": {"a": {"\ud800": 1.0}}}, "half of a surrogate pair"),
        ({"id": "1", "modalities": {"\udfff": {}}}, "half of a surrogate pair"),
    ],
)
def test_who_is_no_patient_is_told_so_alone(asked, patient, words):
    good = {"id": "good", "modalities": {"a": {"p": 1.0}}}
    body = json.dumps({"patients": [patient, good]})
    answer = asked.client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    wrong, right = answer.json()["predictions"]
    assert words in wrong["status"]
    assert right["status"] == "ok"


def test_what_is_no_character_in_the_request_itself_is_no_crash(asked):
    good = {"id": "good", "modalities": {"a": {"p": 1.0}}}
    for fields, status in (({"fingerprint": "\ud800"}, 409), ({"\ud800": 1}, 400)):
        body = json.dumps({"patients": [good], **fields})
        answer = asked.client.post("/predict", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status
        assert answer.json()["detail"]


def test_a_kind_of_another_package_brings_its_form(tmp_path, monkeypatch):
    class Elsewhere(ModalitySchema):
        kind: str = "elsewhere"

    class Pair(TableKind):
        """Two numbers, as a list."""

        def form(self, schema):
            return {"type": "array", "items": {"type": "number"}}

        def of_request(self, schema, given):
            if not isinstance(given, list) or len(given) != 2:
                raise ValueError("give two numbers")
            return given

        def of_requests(self, schema, value_N):
            return Table(np.array([[np.nan, np.nan] if v is None else v for v in value_N], dtype=np.float32))

    for module in (requests, intake):
        monkeypatch.setattr(module, "kind_of", lambda of: Pair())
    monkeypatch.setattr(intake, "examine", lambda *_: SimpleNamespace(findings={}))
    schema = CohortSchema(name="x", classes=("a", "b"), modalities=(Elsewhere(name="dna"),))
    assert requests.without_form(schema) == []
    form = requests.form_of(schema, 5)["properties"]["patients"]["items"]["properties"]["modalities"]["properties"]
    assert form == {"dna": {"type": "array", "items": {"type": "number"}}}
    given = [{"id": 1, "modalities": {"dna": [1.0, 2.0]}}, {"id": 2, "modalities": {"dna": 3}}]
    cohort, problems = Intake(schema, tmp_path).cohort(given)
    assert problems == {1: "dna: give two numbers"}
    dna: Any = cohort.modalities["dna"]
    assert dna.values_NF[0].tolist() == [1.0, 2.0]
    assert np.isnan(dna.values_NF[1]).all()
