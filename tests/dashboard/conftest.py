"""A store, and the dashboard's application on it, signed in."""

import shutil

import pytest
from fastapi.testclient import TestClient

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


@pytest.fixture
def client_of(engine):
    """Client of a dashboard over the store, with its token."""

    def make(min_count: int = 0, access: Access | None = None, **headers: str) -> TestClient:
        app = dashboard_app(engine, access or Access(token=TOKEN), min_count)
        return TestClient(app, headers={"authorization": f"Bearer {TOKEN}"} | headers)

    return make


@pytest.fixture
def client(client_of):
    return client_of()
