"""A run's calibration: two classes without any further exchange, three with one, on validation patients alone."""

import numpy as np
import pytest

from remind.errors import UserError
from remind.federation.message_statistics import Evaluation, Tempered
from remind.federation.messages import Examination
from remind.metrics.calibration_fit import LEAST, fit
from remind.metrics.statistics import collect, merge, total
from remind.metrics.tempering import fit_temperature, tempered
from remind_client.policy.suppress import suppress_examination
from remind_server.outputs.calibration_tables import calibration_rows
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort, schema
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site


def run(folder, config, classes):
    of = schema(classes=classes)
    mixes = {"s1": [1, 3, 7] * 40, "s2": [3, 5, 7, 7] * 30}
    sites = [site(n, cohort(mix, seed, of), config, folder) for seed, (n, mix) in enumerate(mixes.items())]
    recorder, grid = Recorder(), SiteGrid(sites)
    examined, push = [], grid.push_messages

    def watch(messages):
        messages = list(messages)
        examined.extend(m for m in messages if m.metadata.message_type.startswith("evaluate"))
        return push(messages)

    setattr(grid, "push_messages", watch)  # noqa: B010
    FedRemind(config, [recorder]).run(grid)
    return recorder.result, sites, len(examined) // len(sites)


def test_two_classes_are_calibrated_without_a_further_exchange(tmp_path):
    result, _, exchanges = run(tmp_path, settings({"evaluation.operating-point": "youden"}), 2)
    assert exchanges == 1
    classes = result.schema.classes
    assert result.calibration == fit(merge(result.validation.values()), classes, "temperature", "youden", result.round)
    assert result.calibration.point is not None
    assert result.calibration.round == result.last == 2
    assert {row["model"] for row in calibration_rows(result)} == {"raw", "calibrated"}


def test_three_classes_take_one_exchange_and_are_measured_with_their_temperature(tmp_path):
    result, sites, exchanges = run(tmp_path, settings(), 3)
    assert exchanges == 2
    calibration = result.calibration
    assert (calibration.method, calibration.reason) == ("temperature", "")
    assert calibration.patients == total(merge(result.validation.values())).count
    temperature = calibration.scaling.temperature
    for one in sites:
        source = one.engine.state.tokens(fresh=False)
        own = one.engine.evaluation.statistics(source, 2, True, temperature=temperature)
        assert {k: s.log_loss_sum for k, s in own.items()} == pytest.approx(
            {k: s.log_loss_sum for k, s in result.calibrated[one.name].items()}
        )
    raw, after = ([r for r in calibration_rows(result) if r["model"] == m] for m in ("raw", "calibrated"))
    assert [r["n"] for r in raw] == [r["n"] for r in after]
    assert raw[0]["log_loss"] != after[0]["log_loss"]
    assert raw[0]["sensitivity"] is None


def test_nothing_is_asked_for_that_is_not_wanted(tmp_path):
    result, _, exchanges = run(tmp_path, settings({"evaluation.calibration": "none"}), 3)
    assert (exchanges, result.calibration, result.calibrated) == (1, None, {})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluation.calibration": "vector"}, "vector needs two classes, the cohort has 3; use temperature"),
        ({"evaluation.operating-point": "youden"}, "operating-point: needs two classes"),
    ],
)
def test_what_needs_two_classes_is_refused_before_training(changes, said, tmp_path):
    with pytest.raises(UserError, match=said):
        run(tmp_path, settings(changes), 3)


@pytest.mark.parametrize("point", ["youdon", "sensitivity > 0.9", "sensitivity >= 1.5", "specificity >= 0.0"])
def test_operating_points_that_are_none(point):
    with pytest.raises(UserError, match="operating-point"):
        settings({"evaluation.operating-point": point})


def test_an_objective_that_trains_on_validation_patients_fits_nothing(tmp_path):
    result, _, exchanges = run(tmp_path, settings({"method.objective": "dfr", "method.rule": "lg"}), 2)
    assert (exchanges, result.calibration.method) == (1, "none")
    assert "trains on validation patients" in result.calibration.reason


def test_small_groups_are_in_no_part_of_an_examination():
    rng = np.random.default_rng(0)
    group_B = np.repeat([1, 3], [40, 4])
    label_B = rng.integers(3, size=44)
    log_p_BC = np.log(rng.dirichlet(np.ones(3), size=44))
    nothing = np.zeros(44)
    found = collect(group_B, label_B, nothing, log_p_BC, nothing)
    part = {k: Evaluation.of(s) for k, s in found.items()}
    sums = {k: Tempered.of(s) for k, s in tempered(group_B, label_B, log_p_BC).items()}
    message = Examination(round=1, test=part, validation=part, calibrated=part, tempered=sums, seconds=0.0)
    kept = suppress_examination(message, {1, 3}, LEAST)
    assert all(set(p) == {1} for p in (kept.test, kept.validation, kept.calibrated, kept.tempered))
    back = Examination.model_validate_json(message.model_dump_json()).tempered[1].value()
    assert fit_temperature(back, 1.0) == fit_temperature(sums[1].value(), 1.0)


@pytest.mark.parametrize("change", [{"loss": 1e9}, {"slope": -1e9}, {"loss": -1.0}])
def test_sums_that_no_patients_have_are_refused(change):
    rng = np.random.default_rng(0)
    log_p_BC = np.log(rng.dirichlet(np.ones(3), size=9))
    (sums,) = tempered(np.ones(9, dtype=np.int64), rng.integers(3, size=9), log_p_BC).values()
    content = Tempered.of(sums).model_dump()
    Tempered.model_validate(content)
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=r"more than|greater"):
        Tempered.model_validate(content | {name: [value, *content[name][1:]]})
