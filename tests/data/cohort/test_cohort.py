"""Cohorts as arrays: selecting and concatenating patients."""

import numpy as np

from remind.config import SyntheticConfig
from remind.data.cohort.cohort import concatenate
from remind.data.synthetic.generate import generate


def test_parts_put_together_are_the_whole():
    whole = generate(SyntheticConfig(patients=60), seed=3)
    rng = np.random.default_rng(0)
    order = rng.permutation(60)
    parts = [whole.take(order[:10]), whole.take(order[10:11]), whole.take(order[11:])]
    assert concatenate(parts) == whole.take(order)


def test_a_split_that_one_part_lacks_is_dropped():
    whole = generate(SyntheticConfig(patients=20), seed=3)
    with_split = whole.take(np.arange(20))
    object.__setattr__(with_split, "split_N", np.zeros(20, dtype=np.int8))
    assert concatenate([with_split, with_split]).split_N is not None
    assert concatenate([with_split, whole]).split_N is None
