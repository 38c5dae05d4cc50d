"""A simulation prints its estimate before it starts, and does not overload a small machine without consent."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from remind.config import Config
from remind.data.synthetic.generate import generate
from remind.errors import UserError
from remind.training.site_model import SiteModel
from remind_server.simulation import estimate as module
from remind_server.simulation.estimate import available_memory, estimate, refuse_what_is_too_large, size_of
from remind_server.simulation.flwr_pairs import read_pairs

KINDS = {"synthetic.kinds": "image, text, codes", "synthetic.law": "mimic-iv", "model.encoders.image-weights": "random"}


def size(**changes):
    config = Config.from_flat({"synthetic.patients": 60, **changes})
    cohort = generate(config.synthetic, 0)
    return config, cohort, size_of(config, cohort.schema, set(cohort.groups_N.tolist()))


@pytest.mark.parametrize("changes", [{}, KINDS, {"method.fusion": "attention"}])
def test_parameters_are_those_of_the_model(changes):
    config, cohort, found = size(**changes)
    model = SiteModel(cohort.schema, config, cohort.schema.names)
    model.fusion.add_groups(sorted(set(cohort.groups_N.tolist())), 0)
    assert found.encoders == sum(p.numel() for p in model.encoders.parameters())
    assert found.fusion == sum(p.numel() for p in model.fusion.parameters())


def test_memory_grows_with_hospitals_and_processes():
    config, _, found = size()
    few, many = estimate(config, found, 5, 1), estimate(config, found, 1000, 1)
    assert many.memory - few.memory == pytest.approx(995 * (found.encoders + found.fusion) * 4)
    assert many.seconds > 100 * few.seconds
    assert estimate(config, found, 5, 4).memory > few.memory + 3 * module.PROCESS


def test_the_papers_large_preset_is_known_to_be_large():
    config = Config.from_flat(read_pairs(["embed"], "-c"))
    schema = generate(Config.from_flat({"synthetic.patients": 60}).synthetic, 0).schema
    found = size_of(config, schema, {1, 3})
    assert found.fusion > 604.5e6  # the paper: 128 experts of 768 → 3072 → 768
    assert estimate(config, found, 5, 1).memory > 18e9


def test_what_is_too_large_asks_for_yes():
    config, _, found = size()
    large = estimate(config, found, 10**6, 1)
    large = type(large)(**{**vars(large), "available": 1e9})
    assert large.too_much
    with pytest.raises(UserError, match=r"(?s)estimate: .*more than there is.*--yes"):
        refuse_what_is_too_large(large, False, "Take fewer")
    refuse_what_is_too_large(large, True, "Take fewer")
    unknown = type(large)(**{**vars(large), "available": None})
    refuse_what_is_too_large(unknown, False, "where it is not known, nobody is kept from starting")


def test_an_encoder_that_cannot_be_had_is_said(monkeypatch):
    def no_network(*args):
        raise OSError("offline")

    monkeypatch.setattr(module, "build_encoder", no_network)
    config, _, found = size()
    assert found.encoders == 0
    assert "not counted: the encoder of M1" in str(estimate(config, found, 2, 1))


def test_free_memory_is_that_of_the_machine():
    free = available_memory()
    assert free is None or 0 < free < 2**50


def test_simulate_and_bench_ask_for_yes(tmp_path, monkeypatch):
    import typer

    from remind_server.simulation.simulate_command import simulate_command
    from remind_studies.command import bench_command

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "available_memory", lambda: 1e6)
    for command, words in ((simulate_command, []), (bench_command, ["compare", "--seeds", "2"])):
        app = typer.Typer()
        app.command()(command)
        done = CliRunner().invoke(app, words)
        assert isinstance(done.exception, UserError)
        assert "--yes" in str(done.exception)
    assert not [path for path in Path().rglob("*.json") if "cells" not in path.parts]
