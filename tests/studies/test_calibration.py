"""The study of calibration: one federation per seed, its test statistics raw and after each calibration."""

import pytest

from remind.errors import UserError
from remind.metrics.aggregates import examine, measure, scope_of
from remind_studies.cells.runners import run
from remind_studies.results.contenders import Run, contenders, reference
from tests.builders.studies import plan, request


def test_a_panel_per_method_tested_against_its_raw_model():
    panels = plan("calibration", request("softmoe, remind"))
    assert [(panel.name, panel.runner, panel.reference) for panel in panels] == [
        ("softmoe", "calibration", "raw"),
        ("remind", "calibration", "raw"),
    ]


@pytest.mark.parametrize("method", ["pooled", "softmoe+dfr"])
def test_methods_that_hold_nobody_back_are_refused(method):
    with pytest.raises(UserError, match=r"calibration: .* has no validation patients that it does not train on"):
        plan("calibration", request(f"remind, {method}"))


@pytest.mark.slow
def test_a_cell_has_the_model_three_times(tmp_path):
    of = request("remind")
    (panel,) = plan("calibration", of)
    result = run(panel.cell(panel.arms[0], of.common, 0), tmp_path)
    rows = contenders(panel, [Run(panel.name, panel.arms[0].name, 0, result)])
    assert [row.name for row in rows] == ["raw", "temperature", "vector"]
    assert reference(panel, rows) == "raw"
    found = {
        row.name: examine({s: {k: e.value() for k, e in own.items()} for s, own in row.outcomes[0].test.items()})
        for row in rows
    }
    overall = {name: measure("overall", one, scope_of(one, result.counts)) for name, one in found.items()}
    assert overall["temperature"]["auroc"] == pytest.approx(overall["raw"]["auroc"], abs=0.01), "the order stays"
    assert overall["temperature"]["log_loss"] < overall["raw"]["log_loss"] + 0.02
    assert result.facts["validation patients to fit on"] > 20
