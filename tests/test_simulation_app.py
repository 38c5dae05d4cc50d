import io
import tomllib
import zipfile
from pathlib import Path

from flwr.cli.build import build_fab_from_disk
from flwr.common.config import flatten_dict

from remind.config import Config
from remind_server.simulation.app_config import app_toml

ROOT = Path(__file__).parents[1]
APP = ROOT / "simulation" / "pyproject.toml"


def test_the_app_lists_every_setting_with_its_default():
    assert APP.read_text(encoding="utf-8") == app_toml(), (
        "python -m remind_server.simulation.app_config > simulation/pyproject.toml"
    )
    config = tomllib.loads(app_toml())["tool"]["flwr"]["app"]["config"]
    assert flatten_dict(config) == Config().flat()


def test_the_app_has_the_version_of_the_distribution():
    versions = [tomllib.loads(path.read_text())["project"]["version"] for path in (APP, ROOT / "pyproject.toml")]
    assert versions[0] == versions[1]


def test_the_bundle_is_configuration_only(tmp_path):
    (tmp_path / "pyproject.toml").write_text(app_toml())
    (tmp_path / "sneaked_in.py").write_text("print('code')")
    (tmp_path / "cohorts").mkdir()
    (tmp_path / "cohorts" / "mine.toml").write_text("")
    for app in (tmp_path, APP.parent):
        with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(app))) as bundle:
            assert sorted(bundle.namelist()) == [".info/CONTENT", "pyproject.toml"]
