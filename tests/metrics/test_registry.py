"""Every score of the registry reaches everything that shows scores."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from sqlalchemy import inspect

from remind.metrics import scores as registry
from remind.metrics.scores import BOUNDS, EVERY, SCORES, WITH_INTERVAL, Scores, intervals, scores
from remind.metrics.statistics import collect
from remind_server.dashboard.answers import PatientScores, ScoreName
from remind_server.dashboard.downloads import COLUMNS
from remind_server.dashboard.metrics import FAMILIES
from remind_server.dashboard.views.curves import Curve
from remind_server.dashboard.views.groups import SortKey
from remind_server.sinks.scalars import NUMBERS
from remind_server.store.schema import Cell, RoundGroup
from remind_studies.report.words import METRICS


def of_two(odds_B, label_B, loss_B):
    number = len(label_B)
    log_p_BC = -np.logaddexp(0.0, np.stack([odds_B, -odds_B], axis=1))
    return collect(np.ones(number, dtype=np.int64), label_B, loss_B, log_p_BC, np.zeros(number))[1]


@pytest.mark.parametrize("shown", [Scores, PatientScores, Curve])
def test_types_have_a_field_for_each(shown):
    assert set(SCORES) <= {field.name for field in fields(shown)}
    assert shown is Curve or set(BOUNDS) <= {field.name for field in fields(shown)}


def test_addresses_name_each():
    assert set(get_args(ScoreName)) == set(WITH_INTERVAL)
    assert set(SCORES) <= set(get_args(SortKey))


def test_store_files_and_sinks_have_them():
    tables: tuple[Any, ...] = (Cell, RoundGroup)
    for table in tables:
        columns = set(inspect(table).all_orm_descriptors.keys())
        assert set(SCORES) <= columns
        assert {f"{name}{end}" for name, s in SCORES.items() if s.interval for end in ("_low", "_high")} <= columns
    assert set(SCORES) <= set(COLUMNS)
    assert set(SCORES) <= set(NUMBERS)
    assert set(EVERY) == set(METRICS)
    for name, score in SCORES.items():
        assert score.interval or f"remind_group_{name}" in FAMILIES


def test_direction_range_and_intervals_are_as_the_registry_says():
    label_B = np.arange(40) % 2
    good = of_two(np.where(label_B == 1, 2.0, -2.0), label_B, np.full(40, 0.1))
    bad = of_two(np.where(label_B == 1, -2.0, 2.0), label_B, np.full(40, 9.0))
    for name, score in SCORES.items():
        better, worse = score.value(good), score.value(bad)
        assert (better < worse) == score.lower_is_better, name
        assert not score.within_one or (min(worse, better) >= 0 and max(worse, better) <= 1)
        assert getattr(scores(good), name) == better
    one_class = of_two(np.ones(5), np.ones(5, dtype=np.int64), np.ones(5))
    for name, score in SCORES.items():
        assert (score.value(one_class) is None) == score.two_classes, name
    undefined = {name for name, found in intervals(one_class).items() if found is None}
    assert undefined == {name for name, score in SCORES.items() if score.two_classes}


def test_log_loss_is_one_number_whatever_the_objective():
    """The same outputs with each objective's own losses: the own loss differs, the log-loss is that of the outputs."""
    rng = np.random.default_rng(0)
    odds_B, label_B = rng.normal(size=50), rng.integers(2, size=50)
    expected = np.mean(np.logaddexp(0.0, np.where(label_B == 1, -odds_B, odds_B)))
    found = [scores(of_two(odds_B, label_B, loss_B)) for loss_B in (rng.random(50), 3 * rng.random(50))]
    assert found[0].loss != found[1].loss
    assert found[0].log_loss == found[1].log_loss == pytest.approx(expected)


def test_each_is_one_file_named_like_it():
    ours = {path.stem for path in Path(registry.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(registry.LISTED) <= ours <= set(SCORES)
    assert list(SCORES)[: len(registry.LISTED)] == list(registry.LISTED)
