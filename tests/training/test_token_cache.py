"""Cached tokens: computed once, mapped, whole or absent, and never those of other weights or other data."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from remind.data.batches.batch import SiteData
from remind.data.cohort.kinds.table import Table
from remind.data.cohort.kinds.text import TextSchema
from remind.training.site_data import CachedTokens, FreshTokens
from remind.training.site_model import SiteModel
from remind.training.token_cache import TokenCache, cache_key
from remind_client.store.site_store import digest
from tests.builders.cohorts import NAMES, cohort, contents
from tests.builders.configs import settings

GROUPS = [1, 2, 3, 5, 7] * 6
SHAPE = (3, 2, 4)


def fill(cache, name="a", key="k" * 64, value=1.0, dtype=torch.float32):
    with cache.writing({name: (key, SHAPE)}, dtype) as tokens:
        tokens[name].fill_(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_is_written_is_found_under_its_key_alone(tmp_path, dtype):
    cache = TokenCache(tmp_path / "new")
    assert cache.find("a", "k" * 64, SHAPE, dtype) is None
    fill(cache, value=0.3, dtype=dtype)
    assert torch.equal(cache.find("a", "k" * 64, SHAPE, dtype), torch.full(SHAPE, 0.3, dtype=dtype))
    assert cache.find("a", "j" * 64, SHAPE, dtype) is None
    assert cache.find("b", "k" * 64, SHAPE, dtype) is None
    assert cache.find("a", "k" * 64, (4, 2, 4), dtype) is None, "another number of patients"


def test_old_tokens_of_a_modality_go_and_others_stay(tmp_path):
    cache = TokenCache(tmp_path)
    fill(cache, "a", "1" * 64)
    fill(cache, "a-b", "2" * 64)
    fill(cache, "a", "3" * 64)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a-{'3' * 40}.tokens", f"a-b-{'2' * 40}.tokens"]


def test_a_process_that_dies_while_encoding_leaves_nothing_to_be_used(tmp_path):
    cache = TokenCache(tmp_path)

    def dies():
        with cache.writing({"a": ("k" * 64, SHAPE)}, torch.float32) as tokens:
            tokens["a"][0] = 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dies()
    assert cache.find("a", "k" * 64, SHAPE, torch.float32) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [0, 50, 95, 96, 127])
def test_tokens_that_were_changed_on_the_disk_are_none(tmp_path, place):
    cache = TokenCache(tmp_path)
    fill(cache)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert cache.find("a", "k" * 64, SHAPE, torch.float32) is None
    fill(cache)
    assert torch.equal(cache.find("a", "k" * 64, SHAPE, torch.float32), torch.full(SHAPE, 1.0))


def test_another_reader_makes_other_tokens(monkeypatch):
    schema = TextSchema(name="note")
    before = cache_key("e", schema, "c", torch.float32)
    monkeypatch.setattr("remind.training.token_cache.readers_code", lambda: "other")
    assert cache_key("e", schema, "c", torch.float32) != before


def test_tokens_are_private_to_who_maps_them(tmp_path):
    cache = TokenCache(tmp_path)
    fill(cache)
    cache.find("a", "k" * 64, SHAPE, torch.float32).zero_()
    assert cache.find("a", "k" * 64, SHAPE, torch.float32).all()


def test_the_key_depends_on_all_that_decides_the_tokens():
    base = ("weights", TextSchema(name="t"), "contents", torch.float32)
    others = [
        ("other", *base[1:]),
        (*base[:1], TextSchema(name="u"), *base[2:]),
        (*base[:2], "other", base[3]),
        (*base[:3], torch.bfloat16),
    ]
    assert len({cache_key(*parts) for parts in (base, *others)}) == 5


def make(folder, patients, seed=0):
    model = SiteModel(patients.schema, settings({"seed": seed}), NAMES)
    return model, CachedTokens(
        model, SiteData(patients), TokenCache(folder), {n: digest(e) for n, e in model.encoders.items()}
    )


def whole(tokens):
    return next(tokens.batches([np.arange(len(GROUPS))]))[1]


def test_encoders_run_once_per_patient_who_has_the_modality(tmp_path, monkeypatch):
    patients, seen = cohort(GROUPS), []
    model, _ = SiteModel(patients.schema, settings(), NAMES), None
    forward = type(model.encoders["a"]).forward

    def counted(encoder, inputs):
        seen.append(len(inputs))
        return forward(encoder, inputs)

    monkeypatch.setattr(type(model.encoders["a"]), "forward", counted)
    first = whole(make(tmp_path, patients)[1])
    tables = patients.presence_Nm[:, [0, 2]].sum()  # a and c are tables
    assert sum(seen) == tables
    assert torch.equal(whole(make(tmp_path, patients)[1]), first), "a second process reads them"
    assert sum(seen) == tables


def test_other_weights_or_another_cohort_are_never_served_old_tokens(tmp_path):
    patients = cohort(GROUPS)
    first = whole(make(tmp_path, patients)[1])
    assert not torch.equal(whole(make(tmp_path, patients, seed=1)[1]), first)
    values_NF = contents(patients, "a").values_NF.copy()
    row = int(np.flatnonzero(patients.presence_Nm[:, 0])[0])
    values_NF[row, 0] += 1
    changed = replace(patients, modalities={**patients.modalities, "a": Table(values_NF)})
    model, tokens = make(tmp_path, changed)
    (_, fresh), again = next(FreshTokens(model.eval(), SiteData(changed)).batches([np.arange(30)])), whole(tokens)
    torch.testing.assert_close(again, fresh.detach())
    assert not torch.equal(again[row], first[row])
