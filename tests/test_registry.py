"""Methods by name: what is no method is refused when it is registered."""

from importlib import import_module
from typing import Any

import pytest

from remind.config import Section
from remind.fusion.base import FusionModel, FusionOptions
from remind.objectives.base import Objective
from remind.registry import Options, Registry


def test_a_class_that_is_no_method_is_refused_when_it_is_registered():
    things = Registry("thing", "things", FusionModel, FusionOptions)
    about: dict[str, Any] = {"title": "", "paper": "", "year": 2030}
    with pytest.raises(TypeError, match=r"thing 'a': Objective must derive from remind\.fusion\.base\.FusionModel"):
        things.register("a", **about)(Objective)
    with pytest.raises(TypeError, match="thing 'a': Unfinished must define fuse"):

        @things.register("a", **about)
        class Unfinished(FusionModel):
            pass

    wrong: list[Any] = [Options, Section]
    for options in wrong:
        with pytest.raises(TypeError, match=r"must derive from remind\.fusion\.base\.FusionOptions"):

            @things.register("a", **about, options=options)
            class Wrong(FusionModel):
                def fuse(self, tokens, presence_Bm, group_B, routing): ...


def test_a_method_without_options_has_those_of_its_folder():
    things = Registry("thing", "tests", FusionModel, FusionOptions)

    @things.register("plain", title="", paper="", year=2030)
    class Plain(FusionModel):
        def fuse(self, tokens, presence_Bm, group_B, routing): ...

    assert things._methods["plain"].options is FusionOptions


@pytest.mark.parametrize(
    "place",
    [
        "remind.fusion.base.FusionModel",
        "remind.fusion.sparse.Gate",
        "remind.encoders.base.Encoder",
        "remind.federation.rules.units.UnitRule",
        "remind_studies.study.Study",
    ],
)
def test_what_is_abstract_cannot_be_made(place):
    module, _, name = place.rpartition(".")
    with pytest.raises(TypeError, match="Can't instantiate abstract class"):
        getattr(import_module(module), name)(*[None] * 5)
