"""A hospital's cache about its files is in its vault; a running process notices a changed file."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from remind_client import cohort_cache
from remind_client.checks import local
from remind_client.cohort_cache import cached_cohort
from remind_client.vault.key import VaultKey
from remind_client.vault.rotate import rotate
from remind_client.vault.stream import MAGIC
from remind_client.vault_begin import make_key, seal_what_is_clear
from tests.builders.site_files import write_site


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(cohort_cache, "_last", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


def pictures(folder):
    """A cohort of four pictures; unusable ones are left out."""
    (folder / "x").mkdir(parents=True)
    for i in range(4):
        Image.effect_noise((8, 8), 50).save(folder / "x" / f"doe-{i}.png")
    table = pd.DataFrame({"patient_id": range(4), "label": [0, 1, 0, 1], "path": [f"x/doe-{i}.png" for i in range(4)]})
    table[["patient_id", "label"]].to_csv(folder / "patients.csv", index=False)
    table[["patient_id", "path"]].to_csv(folder / "xray.csv", index=False)
    (folder / "cohort.toml").write_text(
        'name = "c"\n[patients]\nempty = "drop"\n[label]\nclasses = ["no", "yes"]\n'
        '[modalities.xray]\nkind = "image"\nsize = [8, 8]\nchannels = 1\nbroken = "drop"\n'
    )


@pytest.fixture
def site(tmp_path):
    site = write_site(tmp_path / "site", "[policy]\nminimum_patients = 1")
    pictures(site.path(site.cohort))
    return site


def kept(site):
    return [path for path in site.state_folder.rglob("*") if path.is_file()] if site.state_folder.is_dir() else []


def test_verdicts_lie_in_the_vault_and_nowhere_else(site, tmp_path):
    make_key(site)
    list(local.check_cohort_of(site))
    (file,) = kept(site)
    assert file.is_relative_to(site.runs_folder)
    assert file.read_bytes().startswith(MAGIC)
    assert not (tmp_path / "user").exists()
    assert site.memory().read(file.name)
    assert b"doe" not in site.memory().read(file.name)
    rotate(site.runs_folder, site.vault_key(), VaultKey(bytes(32)))
    assert site.memory().read(file.name) is None, "under a key that is not the site's: examined again"
    list(local.check_cohort_of(site))
    assert site.memory().read(file.name)


def test_without_a_key_nothing_is_remembered(site, tmp_path):
    list(local.check_cohort_of(site))
    assert kept(site) == []
    assert not (tmp_path / "user").exists()


def test_without_a_vault_verdicts_hold_no_path(tmp_path):
    site = write_site(tmp_path / "site", "[policy]\nminimum_patients = 1\n[vault]\nenabled = false")
    pictures(site.path(site.cohort))
    list(local.check_cohort_of(site))
    (file,) = kept(site)
    assert b"doe" not in file.read_bytes()
    assert seal_what_is_clear(site).written == 0


def test_a_process_that_stays_sees_a_mended_file_and_one_that_was_taken_away(site):
    folder = site.path(site.cohort)
    good = (folder / "x" / "doe-2.png").read_bytes()
    (folder / "x" / "doe-2.png").write_bytes(b"")
    first = cached_cohort(folder)
    assert len(first) == 3
    assert cached_cohort(folder) is first
    (folder / "x" / "doe-2.png").write_bytes(good)
    assert len(cached_cohort(folder)) == 4
    (folder / "x" / "doe-1.png").unlink()
    assert len(cached_cohort(folder)) == 3


def test_files_under_another_root_are_looked_at(tmp_path):
    pictures(tmp_path / "data")
    declared = tmp_path / "here" / "cohort.toml"
    declared.parent.mkdir()
    declared.write_text(f'root = "{tmp_path / "data"}"\n' + (tmp_path / "data" / "cohort.toml").read_text())
    assert len(cached_cohort(declared)) == 4
    (tmp_path / "data" / "x" / "doe-0.png").write_bytes(np.random.default_rng(0).bytes(20))
    assert len(cached_cohort(declared)) == 3
