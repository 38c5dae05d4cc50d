import pytest

from tests.builders.served import service, trained


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Folder of a run, and the patients of each hospital."""
    return trained(tmp_path_factory.mktemp("served") / "run")


@pytest.fixture
def asked(run):
    """The service of the hospital north."""
    return service(run[0])
