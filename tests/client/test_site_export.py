"""`remind-site export` writes the hospital's own model; encoders and name only if the policy allows it."""

import json

import numpy as np
import pytest
from huggingface_hub import ModelCard
from typer.testing import CliRunner

import remind
from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from remind.metrics.calibration import CALIBRATION, Calibration, write_calibration
from remind_client.command import app
from remind_client.site_config import load_site_config
from remind_client.store.site_store import SiteStore
from remind_client.vault.key import new_key_file
from tests.builders.predicting import of_test, train
from tests.builders.site_files import write_site

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("run"))


@pytest.fixture
def hospital(run, tmp_path):
    """Makes the hospital north, which keeps its part of run 7 in its vault, with lines of its policy."""
    results, _, patients = run

    def made(policy: str = ""):
        site = write_site(tmp_path / "site", f"[policy]\nminimum_patients = 10\n{policy}")
        new_key_file(site.vault_key_path)
        part = remind.load(results).bundle.part("north")
        SiteStore(site.runs_folder / "run-7", site.open_vault()).save_model(part)
        write_cohort(patients["north"], tmp_path / "site" / "cohort")
        return load_site_config(tmp_path / "site")

    return made


def export(site, out, *words):
    done = CliRunner().invoke(app, ["export", "--config", site.base, "--out", str(out), *map(str, words)])
    if isinstance(done.exception, UserError):
        raise done.exception
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def everything(out) -> bytes:
    return b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_without_the_policys_word_no_encoder_and_no_name_leaves(run, hospital, tmp_path):
    site, out = hospital(), tmp_path / "out"
    said = export(site, out, "--license", "apache-2.0")
    assert said.count("logits of the run's own patients equal the model's") == 2
    assert "has to add its own encoders of: a, b, c" in said
    assert not (out / "sites").exists()
    assert {path.name for path in (out / "programs").iterdir()} == {"fusion.onnx", "fusion.pt2"}
    assert b"north" not in everything(out)
    card = ModelCard.load(out / "README.md")
    assert card.data.license == "apache-2.0"
    assert "**This is the model of one hospital**, exported by the hospital itself" in card.text
    assert "and its own encoders" not in card.text
    assert "This hospital has no test results of the run" in card.text
    with pytest.raises(UserError, match="contains no hospital's encoders"):
        remind.load(out).outputs(run[2]["north"])
    [entry] = [e for e in site.audit_log.entries() if e["event"] == "exported"]
    assert (entry["encoders"], entry["named"], entry["source"]) == (False, False, "run-7")


def test_by_its_policy_the_whole_model_leaves_and_predicts_the_same(run, hospital, tmp_path):
    site, out = hospital("share_encoders = true\nshare_name = true"), tmp_path / "out"
    write_calibration(tmp_path / CALIBRATION, Calibration.none(("c0", "c1"), round_=2))
    said = export(site, out, "--calibration", tmp_path / CALIBRATION)
    assert said.count("equal the encoder's") == 4, "tables a and c, two programs each"
    test = of_test(run[2]["north"])
    found, expected = remind.load(out).outputs(test), remind.load(run[0], "north").outputs(test)
    assert np.array_equal(found.log_p_NC, expected.log_p_NC)
    assert set(found.site_N.tolist()) == {"north"}
    assert remind.load(out).bundle.part("north").ranges.numbers == {}, "only with --ranges"
    assert remind.load(out).bundle.calibration is not None
    text = (out / "README.md").read_text()
    assert "**This is the model of one hospital, north**" in text
    assert "and its own encoders" in text


def test_counts_below_the_policys_minimum_stay(hospital, tmp_path):
    site, out = hospital("share_encoders = true"), tmp_path / "out"
    export(site, out)
    counts = remind.load(out).bundle.counts
    assert set(counts) == {1, 3, 7}
    assert all(n >= 9 for n in counts.values()), "9: fewer than 10, whatever it is"
    assert "| 4 |" not in (out / "README.md").read_text()


def test_an_encoder_may_stay_where_the_policy_lets_it_go(hospital, tmp_path):
    site = hospital("share_encoders = true")
    export(site, tmp_path / "out", "--no-encoders")
    assert not (tmp_path / "out" / "sites").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--encoders"], "set policy.share_encoders = true in site.toml"),
        (["--ranges"], "--ranges needs the encoders"),
        (["--run", "8"], "run 8: this site has no model of this run; there are: 7"),
    ],
)
def test_mistakes_write_nothing(hospital, tmp_path, words, text):
    site = hospital()
    with pytest.raises(UserError, match=text):
        export(site, tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()
    assert not any(e["event"] == "exported" for e in site.audit_log.entries())


def test_without_its_patients_the_programs_are_checked_on_made_up_ones(hospital, tmp_path):
    site = hospital()
    (tmp_path / "site" / "cohort" / "cohort.toml").unlink()
    said = export(site, tmp_path / "out")
    assert "note: the programs are checked on artificial patients" in said
    assert "artificial patients" in (tmp_path / "out" / "README.md").read_text()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["round"] == 2
