"""Access to the page: nobody without the token; and the headers of every answer."""

import html
import re
import stat
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from starlette.requests import HTTPConnection

from remind.errors import UserError
from remind.web import sign_in
from remind.web.access import Access, networks, token_from
from remind.web.ended import EndedSessions
from remind.web.guesses import FREE
from remind_server.dashboard.app import dashboard_app
from tests.builders.stored_runs import EVIL, Drill
from tests.dashboard.conftest import TOKEN

SITES = {EVIL: {1: 30}, "=HYPERLINK(1)": {1: 20, 3: 9}}
PATHS = [
    *("/", "/runs/1", "/compare?run=1&run=1", "/docs", "/nowhere", "/metrics", "/api/openapi.json", "/api/events"),
    *("/api/runs", "/api/runs/1", "/api/runs/1/groups", "/api/runs/1/events", "/api/runs/1/matrix"),
    *(
        "/api/runs/1/curves",
        "/api/compare?first=1&second=1",
        *("/api/compare/several?run=1&run=2", "/api/runs/1/timeline", "/runs/1/everything.zip"),
        "/compare.csv?first=1&second=1",
    ),
    *("/runs/1/groups.csv", "/runs/1/matrix.csv", "/runs/1/curves.csv", "/runs/1/rounds.csv"),
    *("/api/runs/1/experts", "/api/runs/1/verdict", "/runs/1/experts.csv", "/runs/1/health"),
    *("/api/runs/1/hospitals", "/api/runs/1/thresholds", "/runs/1/hospitals.csv", "/runs/1/thresholds.csv"),
    *("/api/runs/1/model", "/runs/1/calibration.csv", "/runs/1/reliability.csv", "/runs/1/decisions.csv"),
]


@pytest.fixture
def stranger(engine):
    return TestClient(dashboard_app(engine, Access(token=TOKEN, cookie="remind_session_1")), follow_redirects=False)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(sign_in, "WRONG_TOKEN_PAUSE", 0)


def test_the_list_of_paths_is_complete(client):
    described = {re.sub(r"\{\w+\}", "1", path) for path in client.get("/api/openapi.json").json()["paths"]}
    assert described <= {path.split("?")[0] for path in PATHS}


@pytest.mark.parametrize("path", PATHS)
def test_nothing_without_the_token(stranger, path):
    assert stranger.get(path).status_code == 401
    assert stranger.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
    assert stranger.get(path, cookies={"remind_session_1": "9999999999.forged"}).status_code == 401
    person = stranger.get(path, headers={"accept": "text/html"})
    target = "/sign-in" if path == "/" else f"/sign-in?{urlencode({'next': path})}"
    assert (person.status_code, person.headers["location"]) == (303, target)


def test_health_needs_no_sign_in_and_tells_nothing(stranger, engine):
    assert (stranger.get("/health").status_code, stranger.get("/health").text) == (200, "ok\n")
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE cells"))
        connection.execute(text("ALTER TABLE runs RENAME TO gone"))
    broken = stranger.get("/health")
    assert (broken.status_code, broken.json()) == (503, {"detail": "the run store cannot be read at the moment"})


def test_a_person_signs_in_and_out(stranger):
    wrong = stranger.post("/sign-in", data={"token": "guess"})
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers
    right = stranger.post("/sign-in", data={"token": TOKEN})
    cookie = right.headers["set-cookie"]
    assert right.status_code == 303
    for part in ("remind_session_1=", "HttpOnly", "SameSite=strict", "Max-Age="):
        assert part in cookie
    assert TOKEN not in cookie
    assert stranger.get("/api/runs").status_code == 200
    kept = stranger.cookies["remind_session_1"]
    stranger.post("/sign-out")
    assert stranger.get("/api/runs").status_code == 401
    stranger.cookies.set("remind_session_1", kept)
    assert stranger.get("/api/runs").status_code == 401, "the server has ended the session"


def test_a_session_stays_ended_over_a_restart(tmp_path):
    request = HTTPConnection({"type": "http", "headers": []})
    first = Access(token=TOKEN, ended=EndedSessions(tmp_path / "token.ended"))
    ended, other = first.new_session(), first.new_session()
    for value in (ended, other):
        request = HTTPConnection({"type": "http", "headers": [(b"cookie", f"{first.cookie}={value}".encode())]})
        assert first.allows(request)
        if value == ended:
            first.end_session(request)
            assert not first.allows(request)
    again = Access(token=TOKEN, ended=EndedSessions(tmp_path / "token.ended"))
    assert [again._is_session(value) for value in (ended, other)] == [False, True]
    assert stat.S_IMODE((tmp_path / "token.ended").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("wanted", "reached"),
    [
        ("/runs/3?by=auroc&show=all", "/runs/3?by=auroc&show=all"),
        ("/compare?run=1&run=2", "/compare?run=1&run=2"),
        ("//elsewhere.example/", "/"),
        ("/\\elsewhere.example", "/"),
        ("https://elsewhere.example/", "/"),
        ("/sign-out", "/"),
        ("", "/"),
    ],
)
def test_a_deep_link_survives_sign_in(stranger, wanted, reached):
    query = urlencode({"next": wanted})
    form = stranger.get(f"/sign-in?{query}").text
    assert html.escape(f"/sign-in?{query}") in form
    wrong = stranger.post(f"/sign-in?{query}", data={"token": "guess"}).text
    assert html.escape(f"/sign-in?{query}") in wrong, "after a wrong token too"
    right = stranger.post(f"/sign-in?{query}", data={"token": TOKEN})
    assert (right.status_code, right.headers["location"]) == (303, reached)


def test_wrong_tokens_are_slowed_and_logged(stranger, monkeypatch, caplog):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with caplog.at_level("WARNING"):
        for _ in range(FREE + 1):
            assert stranger.post("/sign-in", data={"token": "guess"}).status_code == 401
    logged = [record.getMessage() for record in caplog.records if "wrong token" in record.getMessage()]
    assert len(logged) == 3, "the first, the second, the fourth"
    assert all("testclient" in text and "guess" not in text for text in logged)
    refused = stranger.post("/sign-in", data={"token": TOKEN})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2"), "not even the right one is checked"
    assert stranger.get("/api/runs", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 429
    now[0] += 2.1
    assert stranger.get("/api/runs", headers={"authorization": "Bearer guess"}).status_code == 429
    assert stranger.post("/sign-in", data={"token": TOKEN}).headers["retry-after"] == "4"
    now[0] += 4.1
    assert stranger.post("/sign-in", data={"token": TOKEN}).status_code == 303
    assert stranger.get("/api/runs").status_code == 200


def test_a_session_ends_and_does_not_outlive_its_token(engine, monkeypatch):
    access = Access(token=TOKEN)
    session = access.new_session()
    assert TestClient(dashboard_app(engine, access), cookies={access.cookie: session}).get("/").status_code == 200
    other = Access(token=TOKEN + "other")
    client = TestClient(dashboard_app(engine, other), cookies={access.cookie: session}, follow_redirects=False)
    assert client.get("/").status_code == 401
    monkeypatch.setattr("time.time", lambda: 9e9)
    client = TestClient(dashboard_app(engine, access), cookies={access.cookie: session})
    assert client.get("/api/runs").status_code == 401


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null"])
def test_a_form_on_someone_elses_page_is_refused(stranger, origin):
    answer = stranger.post("/sign-in", data={"token": TOKEN}, headers={"origin": origin})
    assert answer.status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_changes_anything(client, method):
    assert client.request(method, "/api/runs").status_code in (403, 405)


def test_a_huge_form_is_refused(stranger):
    assert stranger.post("/sign-in", content=b"token=" + b"x" * 10_000).status_code == 413


def test_a_proxy_signs_in_only_from_its_address(engine):
    access = Access(token=TOKEN, header="X-Forwarded-User", proxies=networks("10.0.0.0/8, ::1"))
    app = dashboard_app(engine, access)
    user = {"x-forwarded-user": "ann"}
    assert TestClient(app, client=("10.1.2.3", 1)).get("/api/runs", headers=user).status_code == 200
    assert TestClient(app, client=("10.1.2.3", 1)).get("/api/runs").status_code == 401
    assert TestClient(app, client=("192.168.0.1", 1)).get("/api/runs", headers=user).status_code == 401
    with pytest.raises(UserError):
        networks("10.0.0.0/8, hospital")


@pytest.mark.parametrize("path", ["/", "/sign-in", "/runs/1", "/api/runs", "/metrics", "/static/dashboard.css", "/x"])
def test_headers(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_pages_keep_to_the_policy(engine, tmp_path, client):
    """No script, style or handler within a page, and nothing from elsewhere; whatever a site is called."""
    Drill(engine, tmp_path / "results" / "run", SITES, refused={"<b>x</b>": "<i>why</i>"}).start().round()
    for path in ("/", "/runs/1", "/compare?run=1&run=1", "/runs/77", "/sign-in"):
        page = client.get(path, headers={"accept": "text/html"}).text
        assert not re.search(r"<script(?![^>]* src=\"/static/)", page)
        assert not re.search(r"<(style|b>x|i>why|img)|\sstyle=|\son\w+=\"|https?://", page), path
    assert "&lt;script&gt;document.title=" in client.get("/runs/1").text


def test_a_spreadsheet_runs_nothing(engine, tmp_path, client):
    Drill(engine, tmp_path / "results" / "run", SITES).start().round()
    assert "\n'=HYPERLINK(1)" in client.get("/runs/1/matrix.csv").text.replace("\r", "")


def test_mistakes_are_messages(client):
    assert client.get("/api/runs/5").json() == {"detail": "there is no run 5"}
    assert client.get("/api/runs/5/events").status_code == 404
    assert client.get("/api/runs/99999999999999999999").status_code == 404
    assert client.get("/api/runs/1/groups?by=hacked").status_code == 422
    many = ",".join(map(str, range(60)))
    assert "at most 36" in client.get(f"/api/runs/1/curves?groups={many}").json()["detail"]


def test_a_token_file_brings_its_folder(tmp_path):
    path = tmp_path / ".config" / "remind" / "token"
    assert token_from(path) == path.read_text().strip()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_token_file(tmp_path):
    path = tmp_path / "token"
    token = token_from(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token_from(path) == token
    path.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        token_from(path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(UserError, match="at least"):
        token_from(path)
