"""Three hospitals with doors, policies, vaults, keys and rosters of their own, in a run with secure aggregation."""

import json

import pytest

from remind.errors import UserError
from remind.secagg.limits import TOGETHER
from remind_client.audit.verify import verify
from remind_client.rounds.secure import FILE
from remind_server.rounds.strategy import FedRemind
from tests.builders import configs
from tests.builders.observers import Recorder
from tests.builders.secure_hospitals import NAMES, SETTINGS, Doors, hospitals


def test_three_hospitals_train_behind_their_doors(tmp_path, monkeypatch):
    sites, recorder = hospitals(tmp_path), Recorder()
    settings = configs.settings(SETTINGS)
    FedRemind(settings, [recorder]).run(Doors(sites, settings.flat(), monkeypatch))
    assert [r.answered for r in recorder.rounds] == [NAMES]
    assert recorder.result.test.keys() == {TOGETHER}
    for site in sites:
        assert verify(site.audit_log.folder).ok
        log = list(site.audit_log.entries())
        answers = [entry["answer"] for entry in log if entry["event"] == "answered"]
        assert answers == ["Enrolment", "Keys", "Dealt", "MaskedAnswer", "Unmasked", "MaskedAnswer", "Unmasked"]
        assert all("(masked)" in one["name"] for entry in log for one in entry.get("tensors", ()))
        kept = (site.runs_folder / "run-one" / FILE).read_bytes()
        with pytest.raises(ValueError, match=r"."):
            json.loads(kept)  # in the vault


def test_a_hospital_that_is_not_in_the_roster_cannot_be_among_those_whose_sum_is_read(tmp_path, monkeypatch):
    settings = configs.settings(SETTINGS)
    with pytest.raises(UserError, match="west") as error:
        FedRemind(settings).run(Doors(hospitals(tmp_path, left_out=["west"]), settings.flat(), monkeypatch))
    assert "secure-aggregation" in str(error.value)
