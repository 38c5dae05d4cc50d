"""Scores of each label equal those of its patients alone, merged over hospitals or not."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from remind.metrics.labels import label_rows
from remind.metrics.statistics import merge, total
from remind.outcomes.base import Seen
from remind.outcomes.multilabel import Multilabel


def test_labels_against_scikit_learn():
    rng = np.random.default_rng(0)
    outcome = Multilabel(labels=("a", "b", "rare", "never"))
    n = 400
    target_NL = (rng.random((n, 4)) < [0.5, 0.3, 0.05, 0.0]).astype(float)
    raw_NL = 2 * target_NL + rng.normal(size=(n, 4))
    target_NL[:50, 1] = np.nan
    group_N = rng.integers(1, 4, n)

    def collected(part):
        zeros = np.zeros(part.sum())
        seen = Seen(group_N[part], np.zeros(part.sum(), dtype=np.int64), target_NL[part], zeros, zeros)
        return outcome.collect(seen, raw_NL[part])

    half = np.arange(n) < 130
    rows: list[dict[str, Any]] = label_rows(total(merge([collected(half), collected(~half)])), outcome.labels)
    assert rows == label_rows(total(collected(half | ~half)), outcome.labels)
    for position, row in enumerate(rows[:3]):
        known = ~np.isnan(target_NL[:, position])
        truth, score = target_NL[known, position], raw_NL[known, position]
        assert (row["n"], row["positives"]) == (known.sum(), truth.sum())
        assert row["auroc"] == pytest.approx(roc_auc_score(truth, score), abs=2e-3)
        assert row["auprc"] == pytest.approx(average_precision_score(truth, score), abs=2e-2)
        assert row["auroc_low"] < row["auroc"] < row["auroc_high"]
    assert rows[3] == {"label": "never", "n": n, "positives": 0} | dict.fromkeys(
        ("auroc", "auroc_low", "auroc_high", "auprc", "auprc_low", "auprc_high")
    )
