"""Former names of modules find the modules of today, and say so."""

import sys
from importlib import import_module

import pytest

from remind.former_names import FORMER


@pytest.mark.parametrize(("former", "now"), FORMER.items())
def test_a_former_name_is_the_same_module(former, now, monkeypatch):
    module = import_module(now)
    own = module.__spec__
    monkeypatch.delitem(sys.modules, former, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{former} is now {now}"):
        assert import_module(former) is module
    assert module.__spec__ is own
    assert own.name == now


def test_folders_hold_what_the_modules_of_their_names_held():
    from remind.data.cohort import TRAIN, Cohort
    from remind.data.cohort import cohort as module
    from remind.data.sites import Site, split_sites

    assert Cohort is module.Cohort
    assert module.TRAIN == TRAIN
    assert Site.__module__ == split_sites.__module__ == "remind.data.sites.sites"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("remind.data.cohort.contents", "Table"),
        ("remind.data.cohort.schema", "VolumeSchema"),
        ("remind.data.cohort.sections", "CodesSection"),
        ("remind.data.batches.batch", "TextBatch"),
    ],
)
def test_a_name_that_moved_is_found_at_its_former_place(module, name):
    with pytest.warns(PendingDeprecationWarning, match=rf"{module}\.{name} is now remind\.data\.cohort\.kinds"):
        found = getattr(import_module(module), name)
    assert found.__module__.startswith("remind.data.cohort.kinds.")
    with pytest.raises(AttributeError, match="has no attribute 'Tabel'"):
        getattr(import_module(module), "Tabel")  # noqa: B009


def test_other_names_are_not_found():
    with pytest.raises(ModuleNotFoundError):
        import_module("remind.data.nothing")
