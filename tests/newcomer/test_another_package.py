"""What another installed package registers is there in every command; one that cannot be imported is named."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from remind import extensions
from remind.errors import UserError
from tests.builders.recipes import files_of

ROOT = Path(__file__).parents[2]
MODULES = {  # of the package → the recipe's file
    "kind": "remind/data/cohort/kinds/waveform.py",
    "features": "remind/data/synthetic/features/waveform.py",
    "encoder": "remind/encoders/waveform.py",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Environment with a package that brings the kind waveform."""
    folder = tmp_path_factory.mktemp("site-packages")
    (folder / "waveforms").mkdir()
    (folder / "waveforms" / "__init__.py").touch()
    recipes = files_of("extend.md", "A kind of modality")
    for name, path in MODULES.items():
        text = recipes[path].replace("remind.data.cohort.kinds.waveform", "waveforms.kind")
        (folder / "waveforms" / f"{name}.py").write_text(text, encoding="utf-8")
    about = folder / "waveforms-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: waveforms\nVersion: 1.0\n")
    lines = [f"waveform-{name} = waveforms.{name}" for name in MODULES]
    (about / "entry_points.txt").write_text("\n".join(["[remind.extensions]", *lines, ""]))
    paths = [str(folder), *(str(ROOT / part) for part in ("", "server", "client", "studies"))]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "XDG_CACHE_HOME": str(folder / "cache")}


@pytest.mark.slow
def test_commands_know_the_kind_of_another_package(installed, tmp_path):
    def python(*words):
        words = (sys.executable, *words)
        return subprocess.run(words, cwd=ROOT, env=installed, capture_output=True, text=True, check=False)

    cohort, folder = str(tmp_path / "cohort"), tmp_path / "run"
    kinds = ("--kinds", "table, waveform, table, table")
    assert not python("-m", "remind.cli", "data", "synth", cohort, "--patients", "80", *kinds).stderr
    checked = python("-m", "remind.cli", "data", "check", cohort)
    assert "M2: waveform, 2 leads of 64 samples" in checked.stdout, checked.stderr
    assert "model.encoders.choice, waveform" in python("-m", "remind.cli", "methods").stdout
    done = python("-c", RUN, cohort, str(folder))
    assert done.returncode == 0, done.stderr
    assert (folder / "model.safetensors").is_file()


RUN = """
import sys
from pathlib import Path

from remind.config import Config
from remind_server.outputs.run_folder import RunFolder
from remind_server.simulation.simulate import simulate
from tests.builders.configs import BASE

config = Config.from_flat(BASE | {"data.cohort": sys.argv[1], "data.sites": "dirichlet", "results": sys.argv[2]})
simulate(config, 2, [RunFolder(Path(sys.argv[2]))])
"""


def test_an_extension_that_cannot_be_imported_is_named(monkeypatch):
    monkeypatch.setattr(extensions, "entry_points", lambda group: [EntryPoint("mine", "no.such.module", group)])
    with pytest.raises(UserError, match=r"extension mine: no\.such\.module cannot be imported: ModuleNotFoundError"):
        extensions.load_extensions("a group of the test's own")
