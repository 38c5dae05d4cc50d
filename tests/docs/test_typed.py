"""Commands of the documents do what the text says: run in the order of each document, with small settings."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from remind.consortium.enrolment import verify_request
from remind_server.consortium.proxy import nginx_program
from tests.builders.enrolments import Hospital
from tests.builders.study_processes import start_quickly
from tests.docs.commands import DOCUMENTS
from tests.docs.known_runs import KnownRuns
from tests.docs.reader import Reader, commands
from tests.docs.typed_words import ALONE, GUIDES, excuse

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> KnownRuns:
    return KnownRuns(tmp_path_factory.mktemp("known"))


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: KnownRuns) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("REMIND_STORE", raising=False)
    start_quickly(monkeypatch)
    reader = Reader(tmp_path, known)
    with reader.ending:
        yield reader


def document(name: str) -> Path:
    return next(path for path in DOCUMENTS if path.name == name)


@pytest.mark.parametrize("name", ALONE)
def test_document(name, reader):
    assert reader.read(document(name)).typed


def test_guides(reader, monkeypatch):
    """Coordinator and hospital by turns: kit, request, enrolment; each guide to its end; what repairs a consortium."""
    nginx_program("nginx")
    monkeypatch.setenv("REMIND_CA_PASSPHRASE", "correct horse battery")
    monkeypatch.setenv("REMIND_SITE", str(reader.folder / "site"))
    at_coordinator, at_hospital, *others = (commands(document(name), reader.folder) for name in GUIDES)
    enrol = next(i for i, words in enumerate(at_coordinator) if words[1:3] == ["consortium", "enrol"])
    init = next(i for i, words in enumerate(at_hospital) if words[:2] == ["remind-site", "init"]) + 1
    mentioned = [words for words in at_hospital[: init - 1] if words[0] == "remind-site"]  # before there is a site
    for words in (*at_coordinator[:enrol], *(words for words in at_hospital[:init] if words not in mentioned)):
        reader.type(words)
    request = reader.folder / "site" / "enrolment-request.json"
    by_telephone = ["--fingerprint", verify_request(request.read_text()).fingerprint]
    request.rename(reader.folder / "bern-request.json")
    at_coordinator[enrol] += by_telephone
    another = Hospital("geneva").request()  # who stays when the text lets bern go
    (reader.folder / "geneva-request.json").write_text(another)
    enrolled = [*at_coordinator[enrol][:4], "geneva-request.json"]
    at_coordinator.insert(enrol + 1, [*enrolled, "--fingerprint", verify_request(another).fingerprint])
    for words in (*at_coordinator[enrol:], *mentioned, *at_hospital[init:], *itertools.chain(*others)):
        reader.type(words)
    expected = [words for name in GUIDES for words in commands(document(name), reader.folder) if not excuse(words)]
    assert len(reader.typed) == len(expected) + 1 > 25
