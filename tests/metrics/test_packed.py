"""Packed statistics are JSON, and give the same sums and scores."""

import json

from remind.metrics.packed import pack, unpack
from remind.metrics.scores import scores
from tests.builders.stored_runs import statistics


def test_round_trip_and_sum():
    a, b = statistics(40, 1), statistics(25, 2, share=0.2)
    again = [unpack(json.loads(json.dumps(pack(one)))) for one in (a, b)]
    assert scores(again[0] + again[1]) == scores(a + b)


def test_other_bins_cannot_be_added():
    assert unpack(pack(statistics(5, 1)) | {"grid": 1}) is None
