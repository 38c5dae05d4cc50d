"""The additional time of group residual routing in a step of plain Soft MoE.

    python benchmarks/group_routing.py --size small --repeats 100 --steps 3
    python benchmarks/group_routing.py --size large --repeats 12

A step is the forward and backward pass of router and experts, with gradients of all weights, residuals and tokens. With
groups it begins by stacking their residuals, as the model does. "again" is plain Soft MoE a second time; its ratio
shows the noise of the measurement.
"""

from collections.abc import Callable

import torch
from soft_moe import SIZES, Routed, parser_of

from remind.fusion.routing import Gate, routing_entropy
from remind.processes.memory import keep_freed_memory
from remind_studies.cells.stopwatch import Candidate, ratio, seconds, take_turns

PLAIN = "Soft MoE"


def main() -> None:
    """Print the table."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--groups", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    size = SIZES[options.size]
    model = Routed(size)
    shape = model.router.phi_DES.shape
    residuals = [torch.nn.Parameter(0.1 * torch.randn(shape)) for _ in range(options.groups)]
    x_BMD = torch.randn(size.batch, size.tokens, size.width, requires_grad=True)
    upstream_BMD = torch.randn(size.batch, size.tokens, size.width)
    row_B = torch.arange(size.batch) % options.groups
    with torch.no_grad():
        shared_BMES, _ = model.router(x_BMD, None, None, "never", 0.0)
        scores_B = routing_entropy(shared_BMES) / torch.tensor(size.experts).log()

    def forward(gate: Gate, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
        residual_GDES = None if gate == "never" else torch.stack(residuals)
        logits_BMES, open_B = model.router(x_BMD, residual_GDES, row_B, gate, threshold)
        return model.moe(x_BMD, logits_BMES), open_B

    def step_of(gate: Gate, threshold: float) -> Callable[[], None]:
        def step() -> None:
            for tensor in (x_BMD, *model.parameters(), *residuals):
                tensor.grad = None
            forward(gate, threshold)[0].backward(upstream_BMD)

        return step

    median_score = scores_B.median().item()
    gates: dict[str, tuple[Gate, float]] = {
        PLAIN: ("never", 0.0),
        "again": ("never", 0.0),
        "group routing, gate always": ("always", 0.0),
        "group routing, gate entropy, ξ = 0.8": ("entropy", 0.8),
        f"group routing, gate entropy, ξ = {median_score:.4f}": ("entropy", median_score),
    }
    keep_freed_memory()
    candidates = {name: Candidate(step_of(*gate)) for name, gate in gates.items()}
    laps = take_turns(candidates, options.repeats, options.steps, options.clock)
    print(f"{size}, {options.groups} groups, torch {torch.__version__}, {options.threads} threads,")
    print(f"{options.repeats} turns of {options.steps}, {options.clock} time\n")
    print(f"| {options.size} | ms | ÷ {PLAIN} | 95 % interval | gates open |")
    print("|---|---|---|---|---|")
    for name, gate in gates.items():
        middle, low, high = ratio(laps, name, PLAIN)
        with torch.no_grad():
            share = forward(*gate)[1].float().mean().item()
        print(f"| {name} | {seconds(laps, name) * 1e3:.4g} | {middle:.3f} | {low:.3f}–{high:.3f} | {share:.0%} |")


if __name__ == "__main__":
    main()
