"""Studies of small runs: settings of a cell, and a request as the command creates it."""

from dataclasses import replace

import numpy as np

from remind.config import Config, Scalar
from remind_studies.arms import read_arms
from remind_studies.cells.patients import cohort_of
from remind_studies.study import Request, registry
from tests.builders.configs import ROUNDS, SIZE

SMALL: dict[str, Scalar] = {**SIZE, **ROUNDS, "synthetic.patients": 120}  # a cell of a second or two
LARGER = SMALL | {"synthetic.patients": 400}  # every group of the law has patients in every part of the split


def request(methods="remind", clients=3, own_hospitals=(), common=None, **changes):
    """The request for a synthetic cohort; with `own_hospitals` its patients lie in these, in turn."""
    common = {**(LARGER if common is None else common), **changes}
    config = Config.from_flat(common)
    cohort = cohort_of(config.data, config.synthetic, 0)
    if own_hospitals:
        names = np.array([own_hospitals[i % len(own_hospitals)] for i in range(len(cohort))], dtype=np.str_)
        cohort, clients = replace(cohort, site_N=names), None
    return Request(common, cohort, read_arms(methods, common), (0,), clients)


def plan(study, of):
    method, options = registry.choose(study)
    return method.build(options).plan(of)


def differences(of, panel, arm):
    """Settings in which an arm's run differs from that of the request's main method."""
    own, main = (panel.cell(a, of.common, 0).config.flat() for a in (arm, of.main))
    return {key: value for key, value in own.items() if value != main[key]}
