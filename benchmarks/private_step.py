"""What differential privacy adds to a local step of REMIND: norms, clipped sum and noise against plain backward.

    python benchmarks/private_step.py --size fprm --repeats 20 --steps 2
    python benchmarks/private_step.py --size paper --repeats 10

A step is forward and backward of the whole fusion model on cached tokens of patients of several groups, with the
gradients of all parameters, on the same patients with the same weights; the optimiser is left out. "again" is the plain
step a second time, and shows what the clock cannot distinguish. "clipped sum" is a private step before noise. Another
thread draws the noise during the pass: it counts in CPU time, and hardly in wall time where a second core is idle.
"""

import argparse
from collections.abc import Callable

import torch

from remind.config import Config, Scalar
from remind.data.batches.batch import Batch
from remind.data.cohort.kinds.table import TableSchema
from remind.data.cohort.schema import CohortSchema
from remind.methods import methods_of
from remind.objectives.base import StepInput
from remind.processes.memory import keep_freed_memory
from remind.training.private.gradients import Clipping, PrivateGradients
from remind.training.site_model import SiteModel
from remind_studies.cells.stopwatch import Candidate, ratio, seconds, take_turns

SIZES: dict[str, dict[str, Scalar]] = {
    "small": {"model.width": 64, "model.experts": 16},
    "fprm": {"model.width": 128, "model.experts": 32},
    "paper": {"model.width": 768, "model.experts": 128},
}
MODALITIES, TOKENS = 4, 16
PLAIN = "plain"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="fprm")
    parser.add_argument("--patients", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["cpu", "wall"], nargs="+", default=["cpu", "wall"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = Config.from_flat({"method.objective": "erm", "model.dropout": 0.0, **SIZES[options.size]})
    columns = tuple(f"c{i}" for i in range(TOKENS))
    schema = CohortSchema(
        name="benchmark",
        classes=("no", "yes"),
        modalities=tuple(TableSchema(name=f"m{i}", columns=columns) for i in range(MODALITIES)),
    )
    model = SiteModel(schema, config, ()).train()
    groups = [15, 7, 11, 3, 5, 9]
    model.fusion.add_groups(groups, 0)
    group_B = torch.tensor([groups[i % len(groups)] for i in range(options.patients)])
    presence_Bm = (group_B[:, None] >> torch.arange(MODALITIES) & 1).bool()
    index_B, label_B = torch.arange(options.patients), torch.arange(options.patients) % 2
    batch = Batch(index_B=index_B, group_B=group_B, presence_Bm=presence_Bm, label_B=label_B, inputs={})
    tokens_BMD = torch.randn(options.patients, MODALITIES * TOKENS, config.model.width)
    objective = methods_of(config).objective

    def given() -> StepInput:
        return StepInput(
            batch,
            tokens_BMD,
            torch.ones(options.patients),
            lambda tokens, presence, group: model.fuse(tokens, presence, group, routing=True),
            tuple(model.counts.values()),
            torch.Generator().manual_seed(0),
            {},
        )

    def plain() -> None:
        model.zero_grad(set_to_none=True)
        objective.step_loss(given()).backward()  # type: ignore[no-untyped-call]

    def private(noise: float) -> Callable[[], None]:
        gradients = PrivateGradients(model, Clipping(1.0, noise, options.patients), bytes(32), "benchmark")

        def step() -> None:
            model.zero_grad(set_to_none=True)
            with gradients.recording():
                gradients.compute(objective, given())

        return step

    def clipped() -> None:
        gradients = PrivateGradients(model, Clipping(1.0, 0.0, options.patients), bytes(32), "benchmark")
        with gradients.recording(noisy=False):
            gradients.clipped_sum(objective, given())

    keep_freed_memory()
    steps = {PLAIN: plain, "again": plain, "clipped sum": clipped, "private step": private(1.0)}
    number = sum(p.numel() for p in model.parameters())
    print(f"{number / 1e6:.2f} million parameters, {options.patients} patients, {MODALITIES * TOKENS} tokens each,")
    print(f"{options.repeats} turns of {options.steps}, {options.threads} threads\n")
    for clock in options.clock:
        laps = take_turns(
            {name: Candidate(step) for name, step in steps.items()}, options.repeats, options.steps, clock
        )
        print(f"| {options.size}, {clock} time | ms | ÷ {PLAIN} | 95 % interval |")
        print("|---|---|---|---|")
        for name in steps:
            middle, low, high = ratio(laps, name, PLAIN)
            print(f"| {name} | {seconds(laps, name) * 1e3:.4g} | {middle:.3f} | {low:.3f}–{high:.3f} |")
        print()


if __name__ == "__main__":
    main()
