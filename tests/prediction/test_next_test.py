"""The next test with a trained model: b decides the label, c is noise, a has little information."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import remind
from remind.cli import app
from remind.config import Config, Scalar
from remind.data.cohort.cohort import Cohort, presence
from remind.data.cohort.contents import Contents
from remind.data.cohort.kinds.table import Table
from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from remind.prediction.next_test import NextTest, held_out
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort, schema
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.sites import CPU

TABLES = schema(series=())
LEARNING = {"train.local-steps": 40, "train.batch": 32, "train.lr": 0.01, "train.focal-gamma": 0.0}


def patients(group_N, seed: int) -> Cohort:
    """Labels follow b alone, with some noise; a follows the label weakly, c not at all."""
    made = cohort(group_N, seed, TABLES)
    rng = np.random.default_rng(100 + seed)
    n = len(made)
    hidden_b = rng.standard_normal(n)
    label_N = (hidden_b + 0.3 * rng.standard_normal(n) > 0).astype(np.int64)
    first = {"a": 0.7 * (2 * label_N - 1) + rng.standard_normal(n), "b": hidden_b, "c": rng.standard_normal(n)}
    modalities: dict[str, Contents] = {}
    for bit, name in enumerate(TABLES.names):
        values_NF = np.stack([first[name], rng.integers(2, size=n), rng.standard_normal(n)], axis=1)
        modalities[name] = Table(values_NF.astype(np.float32)).hide(np.asarray(group_N) >> bit & 1 == 0)
    return replace(made, label_N=label_N, modalities=modalities, presence_Nm=presence(TABLES, modalities))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run's folder, and the hospital's patients."""
    folder = tmp_path_factory.mktemp("next")
    of = patients([1, 3, 5, 7] * 100, 0)
    config = Config.from_flat(BASE | LEARNING)
    results = RunFolder(folder / "run")
    site = Site("north", of, config, SiteStore(folder / "run" / "sites" / "0"), CPU)
    FedRemind(config, [results]).run(SiteGrid([site]))
    return folder / "run", of


@pytest.fixture(scope="module")
def predictor(trained):
    return remind.load(trained[0], "north", least=1)


def test_the_deciding_test_is_told_from_noise(trained, predictor):
    """Patients with a alone: b would change what is believed and decided, c hardly."""
    tests = NextTest(predictor, held_out(trained[1]))
    table = tests.table(patients([1] * 60, 1))
    assert table["test"].tolist() == ["b", "c"] * 60
    near = table[table["status"] == "ok"]
    assert len(near) > 100
    b, c = (near[near["test"] == name].mean(numeric_only=True) for name in "bc")
    assert b["n"] >= 30
    assert b["change"] > 2.5 * c["change"]
    assert b["flips"] > c["flips"] + 0.1
    assert b["gain"] > c["gain"] + 0.15
    assert b["measured_low"] > 0, "by labels too"
    assert c["measured_low"] < 0.05 < b["measured"]
    assert ((near["change_low"] <= near["change"]) & (near["change"] <= near["change_high"])).all()


def test_an_estimate_is_what_happens_to_patients_who_get_the_test(trained, predictor):
    """New patients with a + b: expected from a alone, against what the model says once b is there."""
    new = patients([3] * 300, 2)
    without = predictor.outputs(new.without("b"))
    then = predictor.outputs(new)
    tests = NextTest(predictor, held_out(trained[1])).of(without)
    b = tests.test_T == 1
    near = b & (tests.n_T > 0)
    changed = np.abs(predictor.believed(then) - predictor.believed(without)).sum(axis=1) / 2
    assert np.mean(tests.change_T3[near, 0]) == pytest.approx(changed[near[b]].mean(), abs=0.06)
    other = (then.decision_N != without.decision_N)[near[b]]
    assert np.mean(tests.flips_T3[near, 0]) == pytest.approx(other.mean(), abs=0.1)


def test_rows_keep_the_order_and_leave_out_who_has_everything_or_nothing(trained, predictor):
    new = patients([7, 1, 5, 1], 3)
    found = predictor.outputs(new, {3: "cannot be read"})
    tests = NextTest(predictor, held_out(trained[1])).of(found)
    pairs = list(zip(tests.patient_id_T.tolist(), tests.test_T.tolist(), strict=True))
    assert pairs == [("p3-1", 1), ("p3-1", 2), ("p3-2", 1)]
    assert tests.columns()["group"] == ["a", "a", "a+c"]


def test_too_few_reference_patients_and_untrained_combinations_are_not_known(trained, predictor):
    few = trained[1].take(np.flatnonzero(trained[1].groups_N == 7)[:29])
    table = NextTest(predictor, few).table(patients([1, 2], 4))
    said = dict(zip(zip(table["group"], table["test"], strict=True), table["status"], strict=True))
    assert said["a", "b"] == "not known: 29 reference patients have a+b, and fewer than 30 are too few"
    assert said["b", "a"] == "not known: no training patient had b, as far as is known here"
    assert (table["n"] == 0).all()
    assert table[["change", "flips", "gain", "measured"]].isna().all(axis=None)
    assert (NextTest(predictor, few, least=29).table(patients([1] * 9, 4))["status"] == "ok").any()


def test_hidden_modalities_are_hidden(trained, predictor):
    """A reference patient with everything counts as a patient with a, and as one with a + b: c plays no part."""
    whole = held_out(trained[1])
    whole = whole.take(whole.groups_N == 7)
    new = patients([1] * 5, 5)
    both = [NextTest(predictor, of).of(predictor.outputs(new)) for of in (whole, whole.without("c"))]
    assert np.array_equal(both[0].change_T3[::2], both[1].change_T3[::2], equal_nan=True)


def test_reference_patients_of_another_schema(predictor):
    with pytest.raises(UserError, match="another schema"):
        NextTest(predictor, cohort([1, 3] * 20)).table(patients([1], 6))


def test_the_command_writes_a_second_table(trained, tmp_path):
    run, of = trained
    write_cohort(replace(patients([1, 3, 7], 7), split_N=None), tmp_path / "new")
    write_cohort(replace(held_out(of), split_N=None), tmp_path / "known")
    expected = NextTest(remind.load(run, "north"), held_out(of)).table(tmp_path / "new")
    for suffix, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        out, tests = tmp_path / f"out.{suffix}", tmp_path / f"tests.{suffix}"
        words = ["predict", run, "--cohort", tmp_path / "new", "--out", out, "--next-test", tests]
        done = CliRunner().invoke(app, [*map(str, words), "--reference", str(tmp_path / "known")])
        assert done.exit_code == 0, done.output
        assert f"wrote {out} and {tests}" in done.stderr
        pd.testing.assert_frame_equal(read(tests), expected, check_dtype=False)
        assert tests.stat().st_mode & 0o077 == 0, "about single patients"
        assert len(read(out)) == 3


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--reference", "known"], "--reference needs --next-test"),
        (["--out", "t.csv", "--next-test", "t.csv"], "the two tables need two files"),
        (["--next-test", "t.xlsx"], r"--next-test t.xlsx: name a .csv or a .parquet file"),
        (["--next-test", "t.csv"], "cannot be used.*--reference"),
    ],
)
def test_mistakes_of_the_command(trained, tmp_path, monkeypatch, words, text):
    monkeypatch.chdir(tmp_path)
    write_cohort(replace(patients([1], 8), split_N=None), tmp_path / "new")
    done = CliRunner().invoke(app, ["predict", str(trained[0]), "--cohort", "new", *words])
    assert isinstance(done.exception, UserError)
    with pytest.raises(UserError, match=f"(?s){text}"):
        raise done.exception
    assert not list(tmp_path.glob("t.*"))


def test_a_cohort_to_learn_from_of_which_nobody_can_be_read_is_a_mistake(trained, tmp_path):
    write_cohort(replace(patients([1], 8), split_N=None), tmp_path / "known")
    table = pd.read_parquet(tmp_path / "known" / "a.parquet")
    table[table.columns[1]] = "much"
    table.to_parquet(tmp_path / "known" / "a.parquet")
    with pytest.raises(UserError, match=r"--reference .*known: no patient can be read; the first: .*'much'"):
        remind.prediction.reference.of_cohort(remind.load(trained[0], "north"), str(tmp_path / "known"))


def test_a_simulation_learns_from_its_own_held_out_patients(tmp_path):
    """Without --reference: the virtual hospitals of the run, without those that they trained on."""
    flat: dict[str, Scalar] = {
        "synthetic.patients": 400,
        "synthetic.law": "independent",
        "synthetic.missing": "0.2, 0.3",
    }
    run = remind.simulate(BASE | flat | {"results": str(tmp_path / "run"), "model.width": 8}, clients=2)
    new = remind.prediction.reference.of_run(run.folder, remind.load(run.folder).bundle)("site-1")
    assert set(new.split_N.tolist()) == {1, 2}
    write_cohort(replace(new.take(range(20)), split_N=None, site_N=None), tmp_path / "new")
    words = ["predict", run.folder, "--cohort", tmp_path / "new", "--site", "site-1", "--next-test", tmp_path / "t.csv"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "t.csv")
    assert set(table["test"]) == {"M1", "M2"}
    assert (table["status"] == "ok").any()
