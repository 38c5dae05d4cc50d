"""An encoder of an existing kind and a study are one file each; a field of a message is three."""

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from remind.cli import app
from remind.config import Config
from remind.encoders import build_encoder, token_count
from remind.errors import UserError
from remind.methods import methods_of
from remind_server.rounds.strategy import FedRemind
from remind_studies.bench import bench, listing
from remind_studies.study import registry as studies
from tests.builders.cohorts import cohort, schema
from tests.builders.configs import BASE
from tests.builders.contracts import hold
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.recipes import added, changes_of, files_of
from tests.builders.sites import site
from tests.builders.studies import SMALL
from tests.builders.trees import Tree
from tests.encoders import test_every_encoder as contract

ENCODER = files_of("extend.md", "An encoder")
STUDY = files_of("extend.md", "A study")


def test_an_encoder_passes_the_contract(tmp_path, monkeypatch):
    with added(ENCODER, tmp_path, monkeypatch):
        assert len(hold(contract, of=contract.chosen("table", "linear(tokens = 3)"))) >= 7


def with_encoder(choice):
    return Config.from_flat(BASE | {"model.encoders.choice": choice})


def test_an_encoder_is_one_file_listed_chosen_and_trained(tmp_path, monkeypatch):
    assert len(ENCODER) == 1
    with added(ENCODER, tmp_path, monkeypatch):
        assert "a linear map of all columns" in CliRunner().invoke(app, ["methods"]).output
        config = with_encoder("table: linear(tokens = 3)")
        a, b, _ = schema().modalities
        assert (token_count(a, config.model), token_count(b, config.model)) == (3, 2)
        made: list[Any] = [build_encoder(a, config.model, 1) for _ in range(2)]
        assert torch.equal(made[0].adapter.weight, made[1].adapter.weight)
        sites = [site(n, cohort([1, 3, 7] * 5, i), config, tmp_path / "sites") for i, n in enumerate("st")]
        assert type(sites[0].engine.model.encoders["a"]).__name__ == "LinearTable"
        recorder = Recorder()
        FedRemind(config, [recorder]).run(SiteGrid(sites))
        assert recorder.result.absent == {}
        trained: Any = sites[0].engine.model.encoders["a"]
        assert trained.mean_F.abs().sum() > 0, "it has seen training patients"


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ("table: liner", "encoder of table: there is no 'liner'; did you mean 'linear'"),
        ("tabel: linear", "no kind of modality 'tabel'; did you mean 'table'"),
        ("table: linear(token = 3)", "token: there is no such option; did you mean 'tokens'"),
        ("table: linear(tokens = 0)", "tokens: Input should be greater than or equal to 1"),
        ("linear", "'linear' is not written 'kind: encoder'"),
        ("table: linear; table: patches", "'table: patches' is named twice"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_before_a_run(tmp_path, monkeypatch, choice, says):
    with added(ENCODER, tmp_path, monkeypatch), pytest.raises(UserError, match=r"model\.encoders\.choice") as error:
        methods_of(with_encoder(choice))
    assert says in str(error.value)


def test_a_study_is_one_file_and_listed(tmp_path, monkeypatch):
    assert len(STUDY) == 1
    with added(STUDY, tmp_path, monkeypatch, studies):
        assert "widths       a smaller model" in listing()
        assert "widths(small = 8)" in listing()


@pytest.mark.slow
def test_a_study_runs_and_is_reported(tmp_path, monkeypatch):
    from remind_server.simulation.flwr_pairs import write_pairs

    with added(STUDY, tmp_path, monkeypatch, studies):
        bench(
            "widths(small = 4)",
            cohort="synthetic",
            methods="",
            seeds="2",
            clients=2,
            metric="auroc",
            tune=0,
            run_config=write_pairs(SMALL),
            anchors=False,
            jobs=1,
            out=tmp_path / "out",
            command="remind bench",
            say=lambda _: None,
        )
    assert "width on synthetic-fprm" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def patched(tree: Path) -> list[str]:
    """Lay the recipe for a message field over a copy of the packages; returns the files that it changes.

    A line that begins with + follows the line before it; it replaces one that begins with −.
    """
    files: list[str] = []
    before = ""
    for line in changes_of("extend.md"):
        if line.startswith("+++ "):
            files.append(line[4:])
        elif line.startswith("+"):
            file = tree / files[-1]
            text = file.read_text(encoding="utf-8")
            assert text.count(f"{before[1:]}\n") == 1, f"{files[-1]}: {before}"
            kept = "" if before.startswith("-") else f"{before[1:]}\n"
            file.write_text(text.replace(f"{before[1:]}\n", f"{kept}{line[1:]}\n"), encoding="utf-8")
        before = line
    return files


@pytest.mark.slow
def test_a_message_field_is_three_files(tmp_path):
    tree = Tree.copy(tmp_path)
    tree.add({"use.py": USE})
    assert "no attribute 'steps'" in tree.python("use.py").stderr
    assert len(patched(tmp_path)) == 3
    done = tree.python("use.py")
    assert done.stdout.splitlines()[-1:] == ["{2}"], done.stderr
    tree.passes("tests/client/test_suppress.py", "tests/client/test_wire.py")


USE = """
from pathlib import Path
from tempfile import mkdtemp

from remind.federation.messages import Report
from remind_client.policy.suppress import suppress_report
from remind_server.rounds.strategy import FedRemind
from tests.builders.grids import SiteGrid
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.observers import Recorder
from tests.builders.sites import site

found = set()


class Told(SiteGrid):
    def __init__(self, sites):
        super().__init__(sites)
        for one in sites:
            one.train = self.listening(one.train)

    def listening(self, train):
        def listened(*given):
            report, buffer = train(*given)
            left = suppress_report(Report.model_validate_json(report.model_dump_json()), [1, 3, 7], 1)
            found.add(left.steps)
            return report, buffer

        return listened


config = settings()
FedRemind(config, [Recorder()]).run(Told([site("s", cohort([1, 3, 7] * 5), config, Path(mkdtemp()))]))
print(found)
"""
