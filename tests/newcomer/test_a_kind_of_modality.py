"""A new kind of modality costs at most five files: three of code, of which this is the test, and the documents."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from remind.cli import app
from remind.config import Config
from remind.data.cohort.cohort import concatenate
from remind.data.cohort.kind import register
from remind.data.cohort.new_patients import open_cohort
from remind.data.cohort.read import read_cohort
from remind.data.cohort.schema import CohortSchema, difference
from remind.data.features.matrix import FeatureMap
from remind.data.sites.hospitals import virtual_hospitals
from remind.errors import UserError
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import contents
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.recipes import added, files_of
from tests.builders.sites import site

FILES = files_of("extend.md", "A kind of modality")


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """A folder that `remind data synth` writes with the new kind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with added(FILES, tmp_path, monkeypatch):
        typed = ["--patients", "90", "--law", "mimic-iv", "--kinds", "waveform, table, waveform"]
        assert remind("data", "synth", str(tmp_path / "cohort"), *typed).exit_code == 0
        yield tmp_path / "cohort"


def remind(*words):
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"})


def test_it_takes_three_files_of_code():
    assert len(FILES) + len(["test", "docs/cohorts.md"]) <= 5


def test_it_is_checked_and_described(cohort):
    done = remind("data", "check", str(cohort))
    assert done.exit_code == 0, done.output
    assert "M1: waveform, 2 leads of 64 samples" in done.output
    assert "no problems found" in done.output
    assert "90 patients" in remind("data", "describe", str(cohort), "--out", str(cohort.parent)).output
    assert 'kind = "waveform"\nleads = 2\nsamples = 64\n' in (cohort / "cohort.toml").read_text()


def test_mistakes_are_named(cohort):
    file = next((cohort / "M1").iterdir())
    np.save(file, np.zeros((2, 63)))
    done = remind("data", "check", str(cohort))
    assert done.exit_code == 1
    assert f"{file.name}, value" in done.output
    assert "has the shape (2, 63); save it as (2, 64)" in done.output
    toml = (cohort / "cohort.toml").read_text()
    (cohort / "cohort.toml").write_text(toml.replace("samples = 64", "sample = 64", 1))
    with pytest.raises(UserError, match=r"modalities\.M1\.sample': no such field; did you mean 'samples'"):
        read_cohort(cohort)


def test_its_patients_and_its_schema_are_those_of_any_kind(cohort):
    read = read_cohort(cohort)
    assert CohortSchema.model_validate_json(read.schema.model_dump_json()) == read.schema
    other = read.schema.model_copy(update={"modalities": (read.schema.modalities[0].model_copy(update={"leads": 3}),)})
    assert "M1, leads: 2 against 3" in difference(read.schema, other)
    half = np.arange(len(read)) % 2 == 0
    parts = [read.take(half), read.take(~half)]
    assert concatenate(parts) == read.take(np.concatenate([np.flatnonzero(half), np.flatnonzero(~half)]))
    assert not read.without("M1").presence_Nm[:, 0].any()
    names = FeatureMap.of(read.schema).features(read).columns.names
    assert [name for name in names if "M2:" not in name] == ["M1 is there", "M2 is there", "M3 is there"]
    (chunk,) = open_cohort(cohort, read.schema).chunks()
    assert chunk.cohort.modalities == read.modalities
    assert not chunk.problems
    digest = read.modalities["M1"].digest()
    path = next(path for path in contents(read, "M1").source_N if path is not None)
    np.save(path, np.ones((2, 64)))
    assert read.modalities["M1"].digest() != digest


@pytest.mark.parametrize("encoders", ["local", "shared"])
def test_it_is_trained_from_its_folder(cohort, tmp_path, encoders):
    changes = {"data.cohort": str(cohort), "data.sites": "dirichlet", "federation.encoders": encoders}
    config = Config.from_flat(BASE | changes)
    hospitals = virtual_hospitals(config.data, config.synthetic, config.seed, 2)
    sites = [site(h.name, h.cohort, config, tmp_path / "sites") for h in hospitals]
    before = {n: t.clone() for n, t in sites[0].engine.model.encoders.state_dict().items()}
    recorder = Recorder()
    FedRemind(config, [recorder]).run(SiteGrid(sites))
    assert recorder.result.absent == {}
    moved = {n.split(".")[0] for n, t in sites[0].engine.model.encoders.state_dict().items() if (before[n] != t).any()}
    assert moved == {"M1", "M2", "M3"}
    travelled = {n.split(".")[1] for n in recorder.models[-1] if n.startswith("encoders.")}
    assert travelled == ({"M1", "M2", "M3"} if encoders == "shared" else set())
    assert all(torch.isfinite(t).all() for t in recorder.models[-1].values())


def test_an_unfinished_kind_is_refused_when_it_is_registered(tmp_path, monkeypatch):
    with added(FILES, tmp_path, monkeypatch):
        waveform: Any = import_module("remind.data.cohort.kinds.waveform").WaveformKind

        from remind.data.cohort.kinds.table import TableSchema

        class Unfinished(waveform):
            schema = TableSchema

        with pytest.raises(TypeError, match="Unfinished: section and schema must give kind the same Literal"):
            register(Unfinished)

        class Asymmetric(waveform):
            def form(self, schema):
                return {}

        with pytest.raises(TypeError, match="Asymmetric defines form, and must define of_request, of_requests too"):
            register(Asymmetric)

        class Nameless(waveform):
            def summary(self, schema, contents):
                return np.zeros((len(contents.present()), 1))

        with pytest.raises(TypeError, match="Nameless defines summary, and must define summary_names too"):
            register(Nameless)

        class Second(waveform):
            pass

        with pytest.raises(ValueError, match="two kinds of modalities are named 'waveform'"):
            register(Second)


def test_a_reader_takes_the_place_of_a_kind_s_own(cohort):
    import remind as library
    from remind.data.cohort.kind import kinds

    own, asked = kinds()["waveform"].read, []

    @library.register.reader("waveform")
    def listening(source, wanted):
        asked.append(wanted.name)
        return own(source, wanted)

    assert read_cohort(cohort).schema.names == ("M1", "M2", "M3")
    assert asked == ["M1", "M3"]
    assert library.register.kind is register
