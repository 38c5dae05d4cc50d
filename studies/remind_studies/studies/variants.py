"""Helpers of several studies: variants of a method, and lists in options."""

import json
import re
from collections.abc import Callable
from typing import TypeVar

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.fusion.base import registry as fusions
from remind_studies.arms import anchored
from remind_studies.study import Arm, Request

REMIND = "remind"
COMMA = re.compile(r",(?![^(]*\))")  # not one in brackets
Item = TypeVar("Item")


def config_of(request: Request, arm: Arm) -> Config:
    """Return the whole config of an arm; its seed means nothing."""
    return Config.from_flat({**request.common, **arm.settings}, f"method {arm.name!r}")


def with_anchors(request: Request) -> tuple[Arm, ...]:
    """Return the methods of the request, with their anchors and yardsticks where these are asked for."""
    if not request.anchors:
        return request.arms
    return anchored(request.arms, request.main, yardsticks=request.yardsticks)


def remind_of(request: Request, study: str) -> Arm:
    """Return the method that the study takes apart: the main one if it is REMIND, else the first that is.

    Raises
    ------
    UserError
        None is.
    """
    for arm in (request.main, *(arm for arm in request.arms if not arm.anchor)):
        if fusions.choose(config_of(request, arm).method.fusion)[0].name == REMIND:
            return arm
    names = ", ".join(arm.name for arm in request.arms)
    raise UserError(f"--methods: {study} varies REMIND itself, and none of {names} is REMIND; add remind")


def require_models(request: Request, study: str) -> None:
    """Refuse yardsticks such as boosted trees where a study changes how a model is trained, which changes no tree.

    Raises
    ------
    UserError
        A method is a yardstick with cells of its own.
    """
    if found := [arm.name for arm in request.arms if arm.runner]:
        raise UserError(f"--methods: {study} changes how a model is trained, and {found[0]} is none; leave it out")


def with_options(choice: str, **options: Scalar) -> str:
    """Write a fusion model with these options set: ``remind(missing = "zero")``; unchanged if they are."""
    method, given = fusions.choose(choice)
    changed = method.options.model_validate({**given.model_dump(), **options})
    if changed == given:
        return choice
    differing = changed.model_dump(exclude_defaults=True).items()
    inside = ", ".join(f"{key.replace('_', '-')} = {json.dumps(value)}" for key, value in differing)
    return f"{method.name}({inside})" if inside else method.name


def beside(request: Request, arms: tuple[Arm, ...], instead: Arm) -> tuple[Arm, ...]:
    """Return the methods of the request but for the one that `arms` stand for, unless one of these has their name."""
    names = {arm.name for arm in arms} | {instead.name}
    return tuple(arm for arm in request.arms if arm.name not in names)


def listed(text: str, read: Callable[[str], Item], option: str) -> tuple[Item, ...]:
    """Return the items of a comma-separated option, each read by `read`, none twice.

    Raises
    ------
    UserError
        One that cannot be read, or none at all.
    """
    found: list[Item] = []
    for part in (part.strip() for part in COMMA.split(text)):
        try:
            item = read(part)
        except ValueError:
            raise UserError(f"{option}: {part!r} in {text!r} is not valid in this comma-separated list") from None
        if item not in found:
            found.append(item)
    return tuple(found)
