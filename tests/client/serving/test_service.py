"""The prediction service: access, metrics, audit log, and loading a new model."""

import asyncio
import re
import shutil
import threading
from dataclasses import replace
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest

from remind.data.cohort.kinds.table import TableKind
from remind.data.cohort.modality_schema import ModalitySchema
from remind.data.cohort.schema import CohortSchema
from remind.errors import UserError
from remind.prediction.predictor import load
from remind_client.serving import app as application
from remind_client.serving import model as models
from remind_client.serving import request as requests
from remind_client.serving.app import Limits
from remind_client.serving.monitor import BLOCK
from remind_client.serving.source import Source
from tests.builders.served import TOKEN, as_json, service, trained

PATHS = ["/", "/predict", "/schema", "/model", "/metrics", "/openapi.json", "/docs", "/nowhere"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_without_the_token(asked, path):
    stranger = httpx.Headers({"authorization": "Bearer wrong"})
    for send in (asked.client.get, asked.client.post):
        assert send(path, headers=stranger, follow_redirects=False).status_code in (401, 403)
    person = asked.client.get(path, headers={**stranger, "accept": "text/html"}, follow_redirects=False)
    target = "/sign-in" if path == "/" else f"/sign-in?{urlencode({'next': path})}"
    assert (person.status_code, person.headers["location"]) == (303, target)


def test_the_list_of_paths_is_complete(asked):
    described = set(asked.client.get("/openapi.json").json()["paths"])
    assert described <= {*PATHS, "/health", "/ready"}


def test_a_form_on_someone_elses_page_is_refused(run, asked):
    asked.client.headers["origin"] = "https://elsewhere.example"
    assert asked.ask(as_json(run[1]["north"], 0)).status_code == 403
    asked.client.headers["origin"] = "http://testserver"
    assert asked.ask(as_json(run[1]["north"], 0)).status_code == 200


def test_a_person_signs_in_and_sees_the_description_that_loads_nothing(asked):
    del asked.client.headers["authorization"]
    assert asked.client.post("/sign-in", data={"token": "x" * 30}).status_code == 401
    page = asked.client.post("/sign-in", data={"token": TOKEN})
    assert page.status_code == 200
    assert "POST /predict" in page.text
    assert "src=" not in page.text
    assert "<script" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def numbers(text: str) -> dict[str, float]:
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[0] != "#"}


def test_numbers_about_patients_come_in_steps_of_the_minimum(run):
    asked, of = service(run[0], minimum=10), run[1]["north"]
    rows = np.flatnonzero(of.groups_N == 1)
    for i in rows[:9]:
        asked.ask(as_json(of, i))
    before = numbers(asked.client.get("/metrics").text)
    assert not [name for name in before if name.startswith("remind_serve_patients{")]
    assert before['remind_serve_requests_total{status="200"}'] == 9
    assert "remind_serve_unseen_share" not in before
    asked.ask(as_json(of, rows[9]))
    asked.ask(as_json(of, np.flatnonzero(of.groups_N == 3)[0]))
    after = numbers(asked.client.get("/metrics").text)
    assert after['remind_serve_patients{group="a"}'] == 10
    assert after['remind_serve_patients{group="all"}'] == 10
    assert 'remind_serve_patients{group="a+b"}' not in after
    assert after["remind_serve_unseen_share"] == 0
    assert after["remind_serve_request_seconds_count"] == 11


def test_the_share_of_unseen_combinations(run):
    asked = service(run[0])
    asked.ask(as_json(run[1]["north"], 0), *({"id": i, "modalities": {"c": {"p": 0.5}}} for i in range(3)))
    assert numbers(asked.client.get("/metrics").text)["remind_serve_unseen_share"] == 0.75


def test_a_wrong_unit_shows_as_drift_of_that_column_alone(run):
    asked, folder = service(run[0]), run[0]
    known = load(folder, "north").bundle.part("north").ranges.numbers["a"]
    shown = 'remind_serve_input_shift{column="%s",modality="a"}'
    drawn = np.random.default_rng(0).normal(size=(BLOCK, 2))
    wrong = 3.0
    patients = [
        {
            "id": i,
            "modalities": {
                "a": {"p": known["p"].mean + known["p"].std * p, "r": known["r"].mean + known["r"].std * (r + wrong)}
            },
        }
        for i, (p, r) in enumerate(drawn.tolist())
    ]
    asked.ask(*patients[:-1])
    assert "remind_serve_input_shift{" not in asked.client.get("/metrics").text
    asked.ask(patients[-1])
    found = numbers(asked.client.get("/metrics").text)
    assert found[shown % "p"] == pytest.approx(drawn[:, 0].mean(), abs=1e-4)
    assert found[shown % "r"] == pytest.approx(drawn[:, 1].mean() + wrong, abs=1e-4)
    assert found[(shown % "p").replace("shift", "spread")] == pytest.approx(drawn[:, 0].std(), abs=1e-4)


def test_what_cannot_be_logged_is_not_answered(run):
    def full(*_):
        raise OSError(28, "No space left on device")

    asked = service(run[0], audit=full)
    answer = asked.ask(as_json(run[1]["north"], 0))
    assert answer.status_code == 503
    assert "audit log cannot be written" in answer.json()["detail"]
    assert "predictions" not in answer.text


@pytest.fixture
def looking(monkeypatch):
    """Every request looks whether there is a new model."""
    monkeypatch.setattr(models, "LOOK_EVERY", 0.0)


@pytest.mark.usefixtures("looking")
def test_a_new_model_is_served_and_a_broken_one_is_not(run, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(run[0], folder)
    asked, patient = service(folder), as_json(run[1]["north"], 0)
    first = asked.ask(patient).json()["predictions"][0]["probabilities"]
    trained(tmp_path / "second", seed=5)
    for name in ("model.safetensors", "sites/0/model.pt"):
        shutil.copy(tmp_path / "second" / name, folder / name)
    second = asked.ask(patient).json()["predictions"][0]["probabilities"]
    assert second != first
    assert (
        second
        == load(tmp_path / "second", "north", least=5)
        .outputs(run[1]["north"].take([0]))
        .frame()
        .filter(regex="^p_")
        .rename(columns=lambda c: c[2:])
        .iloc[0]
        .to_dict()
    )
    assert asked.client.get("/ready").json() == {"ready": True, "newest": True}
    (folder / "sites/0/model.pt").write_bytes(b"cut")
    assert asked.ask(patient).json()["predictions"][0]["probabilities"] == second
    assert asked.client.get("/ready").json() == {"ready": True, "newest": False}
    assert "cannot be read" in asked.client.get("/model").json()["problem"]


@pytest.mark.usefixtures("looking")
def test_without_a_model_it_is_not_ready_and_says_why(run, tmp_path):
    asked = service(tmp_path)
    assert asked.client.get("/health").status_code == 200
    assert asked.client.get("/ready").status_code == 503
    answer = asked.ask(as_json(run[1]["north"], 0))
    assert answer.status_code == 503
    assert str(tmp_path) in answer.json()["detail"]


def test_a_kind_of_another_package_without_a_form_is_not_served(run, monkeypatch):
    class Elsewhere(ModalitySchema):
        kind: str = "genome"

    monkeypatch.setattr(requests, "kind_of", lambda of: TableKind())  # a kind that defines no form
    schema = CohortSchema(name="x", classes=("c0", "c1"), modalities=(Elsewhere(name="dna"),))
    bundle = replace(load(run[0]).bundle, schema=schema)
    keeper = models.ModelKeeper(Source(lambda: None, lambda: bundle))
    with pytest.raises(UserError, match="the kind of modality dna comes from another package"):
        keeper.current()


def test_a_folder_of_several_hospitals_asks_which(run):
    with pytest.raises(UserError, match=re.escape("--site; available: north, south")):
        service(run[0], "").keeper.current()


def test_a_slow_prediction_is_given_up_and_too_many_wait_in_vain(run, monkeypatch):
    begun, released = threading.Event(), threading.Event()

    def slow(*asked):
        begun.set()
        released.wait(60)
        return []

    monkeypatch.setattr(application, "answers", slow)
    asked = service(run[0])
    desk_form = vars(application)["Form"](patients=[as_json(run[1]["north"], 0)])
    desk = application.Desk(
        asked.keeper, asked.monitor, lambda *_: None, Limits(seconds=0.3, waiting=1), application.Files()
    )

    async def both():
        first = asyncio.create_task(desk.answer(desk_form))
        while not begun.is_set() and not first.done():
            await asyncio.sleep(0.01)
        return await asyncio.gather(first, desk.answer(desk_form), return_exceptions=True)

    slow_one, refused = asyncio.run(both())
    released.set()
    assert "no answer within 0.3 s" in slow_one.detail
    assert refused.status_code == 503
    assert "waiting already" in refused.detail
    desk.close()
