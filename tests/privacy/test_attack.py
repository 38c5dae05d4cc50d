"""The attack on sums of known vectors, where the right answer is known."""

import numpy as np
import pytest

from remind.privacy.attack import cosine, guessing, inner_product, judge, least_squares


def candidates(number=60, numbers=80, seed=0):
    return np.random.default_rng(seed).normal(size=(number, numbers))


def members_of(number, count):
    member_N = np.zeros(number, dtype=bool)
    member_N[np.random.default_rng(1).permutation(number)[:count]] = True
    return member_N


@pytest.mark.parametrize("count", [1, 2, 5, 10, 40])
@pytest.mark.parametrize("scale", [1e-6, 1.0])
def test_least_squares_finds_every_member_of_an_exact_sum(count, scale):
    gradient_NP, member_N = scale * candidates(), members_of(60, count)
    score_N = least_squares(gradient_NP[member_N].mean(axis=0), gradient_NP)
    assert judge(score_N, member_N).named == 1
    np.testing.assert_allclose(score_N, member_N / count, atol=1e-8)


def test_least_squares_of_fewer_numbers_than_candidates_still_finds_few():
    gradient_NP, member_N = candidates(200, 50), members_of(200, 2)
    assert judge(least_squares(gradient_NP[member_N].sum(axis=0), gradient_NP), member_N).named == 1


def test_the_inner_product_finds_more_than_chance_in_noise_and_less_with_more_of_it():
    gradient_NP, member_N = candidates(), members_of(60, 10)
    gradient_NP /= np.linalg.norm(gradient_NP, axis=1, keepdims=True)
    rng = np.random.default_rng(2)

    def ranked(noise):
        seen = [gradient_NP[member_N].sum(axis=0) + noise * rng.normal(size=80) for _ in range(50)]
        return np.mean([judge(inner_product(one, gradient_NP), member_N).ranked for one in seen])

    little, much = ranked(0.3), ranked(30.0)
    assert little > 0.9
    assert much == pytest.approx(0.5, abs=0.05)


def test_the_cosine_does_not_depend_on_sizes():
    gradient_NP = candidates()
    seen_P = 7.0 * gradient_NP[3]
    gradient_NP[5] *= 1e4
    score_N = cosine(seen_P, gradient_NP)
    assert score_N.argmax() == 3
    assert score_N[3] == pytest.approx(1)
    assert cosine(seen_P, np.zeros((2, 80))).tolist() == [0, 0]


def test_equal_scores_are_a_draw():
    member_N = members_of(60, 6)
    found = judge(np.zeros(60), member_N)
    assert found.named == pytest.approx(0.1)
    assert found.ranked == pytest.approx(0.5)
    assert guessing(6, 60).named == pytest.approx(0.1)
    half = judge(np.where(np.cumsum(member_N) <= 3, member_N, 0.0), member_N)
    assert half.named == pytest.approx((3 + 3 * 3 / 57) / 6)


def test_nobody_and_everybody():
    with pytest.raises(ValueError, match="nobody is in the update"):
        judge(np.zeros(4), np.zeros(4, dtype=bool))
    everybody = judge(np.arange(4.0), np.ones(4, dtype=bool))
    assert everybody.named == 1
    assert np.isnan(everybody.ranked)
