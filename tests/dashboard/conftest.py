"""A store, and the dashboard's application on it, signed in."""

import shutil
from collections.abc import Mapping
from functools import partial

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from remind.web.access import Access
from remind_server.dashboard.app import dashboard_app
from remind_server.store.open import open_store, store_url
from tests.builders.stored_runs import Drill
from tests.dashboard.browser import chromium, screenshots, visit

__all__ = ["chromium", "screenshots", "visit"]  # fixtures

TOKEN = "a-token-of-enough-characters"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A folder with a store of today's format: its migrations take longer than a copy."""
    folder = tmp_path_factory.mktemp("empty")
    open_store(store_url(folder)).dispose()
    return folder


@pytest.fixture
def engine(tmp_path, empty_store):
    shutil.copytree(empty_store, tmp_path / "results")
    engine = open_store(store_url(tmp_path / "results"))
    yield engine
    Drill.end_all()
    engine.dispose()


@pytest.fixture(scope="module")
def shared_engine(tmp_path_factory, empty_store):
    """A store that the tests of a file read, and none but the fixture that fills it writes."""
    results = tmp_path_factory.mktemp("shared") / "results"
    shutil.copytree(empty_store, results)
    engine = open_store(store_url(results))
    yield engine
    Drill.end_all()
    engine.dispose()


def client_over(
    engine: Engine, min_count: int = 0, access: Access | None = None, headers: Mapping[str, str] | None = None
) -> TestClient:
    """Client of a dashboard over a store, with its token and more headers."""
    app = dashboard_app(engine, access or Access(token=TOKEN), min_count)
    return TestClient(app, headers={"authorization": f"Bearer {TOKEN}"} | dict(headers or {}))


@pytest.fixture
def client_of(engine):
    """Client of a dashboard over the test's own store."""
    return partial(client_over, engine)


@pytest.fixture
def client(client_of):
    return client_of()
