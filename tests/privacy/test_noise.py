"""Secret random numbers: the same for the same question, unlike for any other; noise of the right size, on a grid."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from remind.privacy.counts import count_threshold, noisy_counts
from remind.privacy.noise import STEPS_PER_CLIP, DrawnAhead, GridNoise, Randomness, add_noise, rounded_bound

SECRET = bytes(range(32))


def test_the_same_question_gets_the_same_numbers_and_no_other_does():
    def first(secret=SECRET, question="q", purpose="noise"):
        return Randomness(secret, question, purpose).normals(4)

    np.testing.assert_array_equal(first(), first())
    others = [first(bytes(32)), first(question="r"), first(purpose="draws"), first(question="q\0noise", purpose="")]
    assert len({one.tobytes() for one in [first(), *others]}) == 5


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="secret of 8 bytes is too short"):
        Randomness(b"x" * 8, "q", "noise")


def test_numbers_are_uniform_and_normal():
    uniform, normal = Randomness(SECRET, "q", "u").uniforms(200_000), Randomness(SECRET, "q", "n").normals(200_001)
    assert uniform.min() > 0
    assert uniform.max() <= 1
    np.testing.assert_allclose(np.quantile(uniform, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.005)
    np.testing.assert_allclose(np.quantile(normal, [0.0228, 0.5, 0.9772]), [-2, 0, 2], atol=0.03)
    assert len(normal) == 200_001


def test_noise_has_its_deviation_and_lies_on_the_grid():
    exact = np.linspace(-3, 3, 40_000).reshape(200, 200)
    given = add_noise(exact, 0.5, 2.0, Randomness(SECRET, "q", "noise"))
    assert given.shape == exact.shape
    steps = given / (0.5 / STEPS_PER_CLIP)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)
    assert np.std(given - exact) == pytest.approx(2.0 * rounded_bound(0.5, exact.size), rel=0.02)


def test_without_noise_only_the_grid_is_left():
    exact = np.random.default_rng(0).normal(size=1000)
    assert np.abs(add_noise(exact, 1.0, 0.0, Randomness(SECRET, "q", "noise")) - exact).max() <= 0.5 / STEPS_PER_CLIP


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e60])
def test_a_sum_that_cannot_be_protected_is_refused(bad):
    with pytest.raises(ValueError, match="not finite, or too large"):
        add_noise(np.array([0.0, bad]), 1.0, 1.0, Randomness(SECRET, "q", "noise"))


def test_counts_have_noise_on_every_combination():
    exact = {1: 200, 3: 150, 7: 3}
    said = [noisy_counts(exact, 3, 5.0, Randomness(SECRET, str(i), "counts")) for i in range(400)]
    assert {1, 3} <= set.intersection(*(set(one) for one in said))
    deviation = np.std([one[1] for one in said])
    assert deviation == pytest.approx(5.0, rel=0.12)
    assert count_threshold(3, 5.0) == 10
    assert all(count >= 10 for one in said for count in one.values())
    phantoms = np.mean([len(set(one) - set(exact)) for one in said])
    assert 0.02 < phantoms < 0.5  # empty combinations are said too, now and then: saying one tells nothing
    assert np.mean([7 in one for one in said]) < 0.2


@pytest.mark.parametrize("numbers", [1, 65_535, 65_536, 65_537, 140_001])
def test_noise_that_another_thread_draws_is_that_of_the_stream(numbers):
    exact = np.linspace(-1, 1, numbers)
    with ThreadPoolExecutor(1) as thread:
        drawn = DrawnAhead(Randomness(SECRET, "q", "n"), numbers, thread).result()
    pieces = np.array_split(np.arange(numbers), 3)  # any pieces
    given = [GridNoise(0.5, 2.0, numbers).add(exact[piece], drawn[piece]) for piece in pieces]
    np.testing.assert_array_equal(np.concatenate(given), add_noise(exact, 0.5, 2.0, Randomness(SECRET, "q", "n")))
