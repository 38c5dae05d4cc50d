"""The section `privacy`: a setting of a guarantee that is not given is refused."""

import pytest

from remind.config import Config
from remind.errors import UserError


def test_no_guarantee_unless_asked_for():
    assert Config().privacy.mode == "none"


@pytest.mark.parametrize("setting", [{"privacy.epsilon": 1.0}, {"privacy.loss-every": 5}, {"privacy.r-max": 2.0}])
def test_settings_of_a_guarantee_need_one(setting):
    with pytest.raises(UserError, match=r"mode = 'none' gives none: set privacy\.mode"):
        Config.from_flat(setting)
