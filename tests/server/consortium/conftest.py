"""A consortium's folder, a SuperLink with its state in memory, and hospitals with keys."""

import pytest

from remind_server.consortium.make import make
from tests.builders.enrolments import Hospital, Registry


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "heart", "heart", ["coordinator.example.org", "10.0.0.5"], 443, "", None, 3650, 365)


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def hospital():
    return Hospital
