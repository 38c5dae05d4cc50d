"""`remind.adapt` writes a folder like that of a run, which predicts; after an error it writes nothing."""

import numpy as np
import pytest

import remind
from remind.data.synthetic.write import write_cohort
from tests.builders import predicting
from tests.builders.cohorts import cohort

MIX = [3, 6, 6, 7] * 24


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return predicting.train(tmp_path_factory.mktemp("trained"))[0]


def test_a_folder_that_predicts_and_can_be_adapted_again(trained, tmp_path):
    out, patients = tmp_path / "out", cohort(MIX, 11)
    predictor = remind.adapt(trained, patients, out=out, site="west", rounds=1)
    assert (out / "model.safetensors").stat().st_mode & 0o077 == 0
    again = remind.load(out).outputs(patients)
    assert np.array_equal(predictor.outputs(patients).log_p_NC, again.log_p_NC)
    assert set(again.site_N.tolist()) == {"west"}
    assert predictor.calibration is not None
    assert predictor.calibration.classes == ("c0", "c1")
    write_cohort(patients, tmp_path / "cohort")
    twice = remind.adapt(out, tmp_path / "cohort", out=tmp_path / "twice", shared="tuned", rounds=1)
    assert twice.bundle.counts[6] == 48, "patients of both"


def test_nothing_is_written_where_something_is_wrong(trained, tmp_path):
    with pytest.raises(remind.UserError, match="--shared"):
        remind.adapt(trained, cohort(MIX, 11), out=tmp_path / "out", shared="no")
    with pytest.raises(remind.UserError, match="--round: there is no such choice; did you mean 'rounds'"):
        remind.adapt(trained, cohort(MIX, 11), out=tmp_path / "out", round=2)
    (tmp_path / "there").mkdir()
    with pytest.raises(remind.UserError, match="exists already"):
        remind.adapt(trained, cohort(MIX, 11), out=tmp_path / "there")
    with pytest.raises(remind.UserError, match="there is no folder"):
        remind.adapt(trained, cohort(MIX, 11), out=tmp_path / "no" / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
