"""Hiding a modality depends only on the person."""

from dataclasses import replace

import numpy as np
import pytest

from remind.data.cohort.cohort import concatenate
from remind.errors import UserError
from remind_studies.cells.missingness import hide, spared
from tests.builders.cohorts import cohort

MIX = [1, 3, 5, 7] * 500


def hidden(before, after, modality="a"):
    bit = before.schema.names.index(modality)
    assert (after.presence_Nm <= before.presence_Nm).all()
    others = [i for i in range(len(before.schema.names)) if i != bit]
    assert (after.presence_Nm[:, others] == before.presence_Nm[:, others]).all()
    return before.presence_Nm[:, bit] & ~after.presence_Nm[:, bit]


def test_the_share_comes_out_and_whoever_has_nothing_else_keeps_it():
    whole = cohort(MIX)
    gone_N = hidden(whole, hide(whole, "a", 0.8, 1))
    alone_N = whole.groups_N == 1
    assert not gone_N[alone_N].any()
    assert spared(whole, "a") == 500
    others = int((~alone_N).sum())
    assert abs(gone_N.sum() / others - 0.8) < 4 * np.sqrt(0.16 / others)
    assert (hide(whole, "a", 0.8, 1).groups_N > 0).all()


def test_every_part_of_the_split_alike():
    whole = cohort(MIX)
    gone_N = hidden(whole, hide(whole, "a", 0.5, 1))
    for part in range(3):
        rows = (whole.split_N == part) & (whole.groups_N != 1)
        assert abs(gone_N[rows].mean() - 0.5) < 4 * np.sqrt(0.25 / rows.sum())


def test_order_of_rows_and_who_else_is_there_do_not_matter():
    whole = cohort(MIX)
    gone_N = hidden(whole, hide(whole, "a", 0.6, 3))
    order = np.random.default_rng(0).permutation(len(whole))
    shuffled = whole.take(order)
    assert (hidden(shuffled, hide(shuffled, "a", 0.6, 3)) == gone_N[order]).all()
    half = whole.take(np.arange(0, len(whole), 2))
    assert (hidden(half, hide(half, "a", 0.6, 3)) == gone_N[::2]).all()
    parts = [whole.take(np.arange(i, len(whole), 4)) for i in range(4)]
    assert concatenate([hide(part, "a", 0.6, 3) for part in parts]) == hide(concatenate(parts), "a", 0.6, 3)


def test_rows_of_a_person_stay_together():
    whole = cohort([7] * 400)
    visits = replace(whole, person_N=np.repeat(whole.patient_id_N[::4], 4))
    gone_N = hidden(visits, hide(visits, "b", 0.5, 0), "b").reshape(100, 4)
    assert (gone_N == gone_N[:, :1]).all()
    assert 0 < gone_N[:, 0].sum() < 100


def test_more_is_hidden_from_the_same_and_others():
    whole = cohort(MIX)
    little, much = (hidden(whole, hide(whole, "a", share, 2)) for share in (0.3, 0.7))
    assert (little <= much).all()
    assert little.sum() < much.sum()


def test_seeds_and_modalities_draw_apart():
    whole = cohort([7] * 1000)
    a, again, other = (hidden(whole, hide(whole, "a", 0.5, seed)) for seed in (0, 0, 1))
    b = hidden(whole, hide(whole, "b", 0.5, 0), "b")
    assert (a == again).all()
    for different in (other, b):
        assert abs((a == different).mean() - 0.5) < 0.1


def test_none_and_all():
    whole = cohort(MIX)
    assert hide(whole, "a", 0.0, 0) == whole
    everybody = hidden(whole, hide(whole, "a", 1.0, 0))
    assert (everybody == (whole.groups_N != 1)).all()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none(share):
    with pytest.raises(UserError, match="is not between 0 and 1"):
        hide(cohort([7]), "a", share, 0)


@pytest.mark.parametrize("function", [lambda c: hide(c, "x", 0.5, 0), lambda c: spared(c, "x")])
def test_a_modality_that_is_none(function):
    with pytest.raises(UserError, match="no modality 'x' in cohort tiny; there are a, b, c"):
        function(cohort([7]))
