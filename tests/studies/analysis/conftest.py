import pytest

from remind_studies.analysis.analyse import analyse, with_soft_moe
from remind_studies.analysis.hospitals import Hospitals
from remind_studies.analysis.stored import read_run
from remind_studies.analysis.trained import Wish
from remind_studies.made import made
from tests.builders.analysed_runs import SITES, small_config, train


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Results folder of a finished run, which tests leave as it is, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, train(folder)[1]


@pytest.fixture(scope="session")
def folder(trained):
    return trained[0]


@pytest.fixture
def run(folder):
    return read_run(folder)


@pytest.fixture
def hospitals(run, tmp_path):
    """The run's hospitals as they ended."""
    return run.hospitals(tmp_path, stored=True)


@pytest.fixture
def fresh(tmp_path):
    """Hospitals before any training."""
    return Hospitals(small_config(), SITES, tmp_path / "fresh")


@pytest.fixture(scope="session")
def analysis(folder):
    """Of the run, against Soft MoE on the same patients."""
    run = read_run(folder)
    return analyse(run, with_soft_moe(run), Wish(every=2, patients=6), lambda: made("remind analyze", 1.0), print)
