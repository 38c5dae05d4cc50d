"""Updates that are much larger than the others of a round."""

import pytest
import torch

from remind_server.rounds.outliers import HARMLESS, Outliers, UpdateSize, update_size

MOST = 0.5  # federation.max-update


def problems(updates, ratio=5.0, most=MOST):
    """Updates: site → block → norm, or one norm of block `shared`, of models of norm 1."""
    outliers = Outliers(ratio, most)
    for name, norms in updates.items():
        outliers.add(name, UpdateSize(norms if isinstance(norms, dict) else {"shared": norms}))
    return {name: problem for name in updates if (problem := outliers.problem(name))}


@pytest.mark.parametrize("last", [0.0, 0.1, 0.5, 100.0])
def test_against_the_median_of_the_round(last):
    found = problems({"a": 0.1, "b": 0.11, "c": 0.09, "liar": last})
    assert set(found) == ({"liar"} if last == 100.0 else set())


def test_who_and_how_much_is_said():
    (words,) = problems({"a": 0.1, "b": 0.2, "c": 2.0}).values()
    assert "block shared is 2 times as large as the model" in words
    assert "10 times the median of 3" in words
    assert "max-update-ratio allows 5" in words


@pytest.mark.parametrize(
    "sizes", [{"a": 0.1, "b": 9.0}, {"a": 0.0, "b": 0.0, "c": 9.0}, {"a": 0.0, "b": 0.1, "c": 9.0}]
)
def test_fewer_than_three_that_moved_judge_nobody(sizes):
    assert problems(sizes) == {}


def test_no_site_is_an_outlier_among_its_like():
    assert problems({str(i): size for i, size in enumerate([0.01, 0.03, 0.04, 0.06, 0.05])}) == {}


@pytest.mark.parametrize(("size", "harmful"), [(0.0117, False), (0.049, False), (0.051, True)])
def test_what_is_small_beside_the_model_harms_nobody(size, harmful):
    """An honest small site beside large ones that hardly move: many times the median, and nearly nothing."""
    assert HARMLESS * MOST == 0.05
    found = problems({"a": 0.0015, "b": 0.0012, "c": 0.0016, "small": size})
    assert set(found) == ({"small"} if harmful else set())
    assert problems({"a": 0.0015, "b": 0.0012, "c": 0.0016, "small": size}, most=2.0) == {}, "a share of max-update"


def test_an_encoder_is_held_against_the_same_encoder():
    """Sites with a big encoder move far more in all than sites without it, and no more than one another."""
    with_it = {"shared": 0.01, "encoder:ct": 0.3}
    without = {"shared": 0.012, "encoder:labs": 0.02}
    honest = {"a": without, "b": without, "c": without, "d": with_it}
    assert problems(honest) == {}, "the only one with the block is nobody's like"
    more = honest | {"e": with_it, "f": with_it}
    assert problems(more) == {}
    found = problems(more | {"liar": {"shared": 0.01, "encoder:ct": 1.8}})
    assert set(found) == {"liar"}
    assert "block encoder:ct" in found["liar"]
    assert set(problems(more | {"liar": {"shared": 0.2, "encoder:ct": 0.3}})) == {"liar"}, "nor does an encoder hide it"


def test_sizes_of_a_reply_by_block():
    sent = {"fusion.bank.x": torch.tensor([3.0, 4.0]), "fusion.groups.5.y": torch.tensor([12.0])}
    received = {"fusion.bank.x": torch.tensor([3.0, 4.5]), "fusion.groups.5.y": torch.tensor([12.0 + 1.2])}
    size = update_size(sent, received)
    assert size.model == pytest.approx(13.0)
    assert size.norms == {"shared": pytest.approx(0.5), "group:5": pytest.approx(1.2)}
    assert size.relative == pytest.approx(0.1)
    assert update_size({"fusion.b": torch.ones(1) / 9}, {"fusion.b": torch.ones(1) / 9}).model == 1.0
