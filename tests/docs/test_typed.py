"""Commands of the documents do what the text says: typed in the order of each document, made short."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from remind.consortium.enrolment import verify_request
from remind_server.consortium.proxy import nginx_program
from tests.docs.commands import DOCUMENTS
from tests.docs.reader import Reader, commands

pytestmark = pytest.mark.slow

GUIDES = ("coordinator-guide.md", "hospital-guide.md", "exit-codes-coordinator.md", "exit-codes-site.md")
# Documents and how many of their commands are typed at least, so that none is lost unseen.
LEAST = {
    "CONTRIBUTING.md": 1,
    "README.md": 1,
    "analysis.md": 2,
    "cohorts.md": 3,
    "dashboard.md": 5,
    "design.md": 1,
    "encoders.md": 1,
    "export.md": 1,
    "extend.md": 1,
    "importing.md": 1,
    "predict.md": 1,
    "running.md": 9,
    "studies.md": 1,
    "tutorial.md": 7,
}


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("REMIND_STORE", raising=False)
    reader = Reader(tmp_path)
    with reader.ending:
        yield reader


def document(name: str) -> Path:
    return next(path for path in DOCUMENTS if path.name == name)


@pytest.mark.parametrize("name", LEAST)
def test_document(name, reader):
    assert len(reader.read(document(name)).typed) >= LEAST[name], reader.typed


def test_guides(reader, monkeypatch):
    """Coordinator and hospital by turns: kit, request, enrolment; then each guide to its end."""
    nginx_program("nginx")
    monkeypatch.setenv("REMIND_CA_PASSPHRASE", "correct horse battery")
    monkeypatch.setenv("REMIND_SITE", str(reader.folder / "site"))
    at_coordinator, at_hospital = (commands(document(name), reader.folder) for name in GUIDES[:2])
    enrol = next(i for i, words in enumerate(at_coordinator) if words[1:3] == ["consortium", "enrol"])
    init = next(i for i, words in enumerate(at_hospital) if words[:2] == ["remind-site", "init"]) + 1
    mentioned = [words for words in at_hospital[: init - 1] if words[0] == "remind-site"]  # before there is a site
    for words in (*at_coordinator[:enrol], *(words for words in at_hospital[:init] if words not in mentioned)):
        reader.type(words)
    request = reader.folder / "site" / "enrolment-request.json"
    by_telephone = ["--fingerprint", verify_request(request.read_text()).fingerprint]
    request.rename(reader.folder / "bern-request.json")
    at_coordinator[enrol] += by_telephone
    own = (words for words in at_hospital[init:] if words[1] == "vault")  # tests/e2e/test_hospital.py: the rest
    for words in (*at_coordinator[enrol:], *mentioned, *own):
        reader.type(words)
    assert len(reader.typed) >= 15, reader.typed
