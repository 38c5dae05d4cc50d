"""Time of a round that trains encoders of pictures ÷ time of its steps alone: all patients measured, and a sample.

    python benchmarks/measuring.py

In such a round a site measures the received model on its training and validation patients, and then takes its steps.
Weights are random, since the time does not depend on them.
"""

import argparse
import time

import numpy as np
import torch
from cached_tokens import NAMES, PRESETS, make_cohort

from remind.config import Config
from remind.data.batches.batch import SiteData
from remind.data.cohort.cohort import TRAIN, VALIDATION
from remind.methods import methods_of
from remind.training.evaluate import evaluate
from remind.training.local import build_optimizer
from remind.training.measure import drawn, estimated, losses
from remind.training.sampling import steps
from remind.training.site_data import FreshTokens
from remind.training.site_model import SiteModel
from remind.training.work import LocalWork, RoundSettings


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=256, help="three quarters of them to train on")
    parser.add_argument("--measured", type=int, default=16, help="train.measure-patients")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2, help="of each kind, in turn; medians are printed")
    parser.add_argument("--large", action="store_true", help="four ViT-B/16, as in cached_tokens.py")
    options = parser.parse_args()
    torch.set_num_threads(1)
    own = {"model.encoders.image-weights": "random", "train.batch": options.batch, "train.local-steps": options.steps}
    config = Config.from_flat(PRESETS[not options.large] | own)
    cohort = make_cohort(options.patients)
    model = SiteModel(cohort.schema, config, NAMES)
    model.fusion.add_groups([15], 0)
    source, objective = FreshTokens(model, SiteData(cohort)), methods_of(config).objective
    train, validation = (np.flatnonzero(cohort.split_N == part) for part in (TRAIN, VALIDATION))
    group_N, counts = cohort.groups_N[train], {15: len(train)}

    def everybody() -> None:
        losses(model, source, train, objective, routing=False)
        evaluate(model, source, validation, objective, routing=False)

    def sampled() -> None:
        few = [drawn(rows, cohort.groups_N[rows], options.measured, 0) for rows in (train, validation)]
        estimated(model, source, few[0], counts, objective, routing=False)
        evaluate(model, source, few[1], objective, routing=False)

    def work() -> None:
        optimizer = build_optimizer(config.train, model, train_encoders=True)
        plan = list(steps(config.train, train, group_N, {15: 1.0}, counts, np.random.default_rng(0)))
        LocalWork(model, objective, source, RoundSettings(lr=1e-4), plan, optimizer).steps()

    seconds = []
    for _ in range(options.rounds):
        times = [time.process_time()]
        for part in (work, everybody, sampled):
            part()
            times.append(time.process_time())
        seconds.append(np.diff(times))
    of_steps, of_all, of_some = np.median(seconds, axis=0)
    print(f"{len(train)} training and {len(validation)} validation patients, {options.steps} steps of {options.batch}")
    print(f"CPU seconds: steps {of_steps:.1f}, measuring all {of_all:.1f}, a sample {of_some:.1f}")
    print(f"a round ÷ its steps: all measured {1 + of_all / of_steps:.2f}; ", end="")
    print(f"at most {options.measured} of a group {1 + of_some / of_steps:.2f}")


if __name__ == "__main__":
    main()
