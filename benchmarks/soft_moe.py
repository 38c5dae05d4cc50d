"""Soft MoE against the Soft MoE packages on PyPI and against its own arithmetic.

    pip install soft-moe-pytorch soft-moe soft-mixture-of-experts
    python benchmarks/soft_moe.py --size small --repeats 100 --steps 3
    python benchmarks/soft_moe.py --size large --repeats 8 --steps 3

A step is forward and backward with the gradients of weights and tokens, after dropping the gradients of the step
before. All candidates have the same experts (E perceptrons D → H → D with gelu), one slot per expert and one router;
FLOPs of their matrix products are counted, not assumed. The bound is that count ÷ the rate of torch.mm at 2048³.
`remind` runs as in a training, where glibc keeps freed memory; the others run as in a process that does not change
glibc's settings. `--kept` runs all with kept memory, so that only the arithmetic differs.
Needs 8 GB of memory for the large size: candidates with weights of one layout share them.
"""

import argparse
import ctypes
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from remind.errors import UserError
from remind.fusion.experts import SoftMoE
from remind.fusion.routing import Router
from remind.processes.memory import M_MMAP_MAX, M_TRIM_THRESHOLD, keep_freed_memory, return_freed_memory
from remind_studies.cells.stopwatch import Candidate, Laps, peak_bytes, ratio, seconds, take_turns

OURS, DEFAULT = "remind", "remind, glibc's defaults"
M_MMAP_THRESHOLD, MIB = -3, 2**20
DIFFERENCES = """\
What the packages do differently, none of it in their matrix products:
soft-moe-pytorch         RMSNorm of tokens and of slot embeddings; experts in a loop; moves every expert to its device
                         in every forward pass (its default)
soft-moe                 logits from normalised tokens, which the experts see too; experts in a loop; own softmax
soft-mixture-of-experts  raw logits; batched experts as here; its layer has no hidden width, so two of its expert
                         layers with a gelu between stand for one expert; shares remind's weights here
remind                   cosine logits; batched experts"""


@dataclass(frozen=True)
class Size:
    """B patients, M tokens, D width, E experts of one slot, H hidden width."""

    batch: int
    tokens: int
    width: int
    experts: int
    hidden: int


SIZES = {"small": Size(32, 64, 128, 32, 512), "large": Size(16, 64, 768, 128, 3072)}


class Routed(nn.Module):
    """Router and Soft MoE of REMIND without groups."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.router = Router(size.width, size.experts, 1)
        self.moe = SoftMoE(size.experts, size.width, size.hidden)

    def forward(self, x_BMD: Tensor) -> Tensor:
        """(B, M, D) → (B, M, D)."""
        return self.moe(x_BMD, self.router(x_BMD, None, None, "never", 0.0)[0])


def build(size: Size) -> dict[str, nn.Module]:
    """All modules; those with weights of one layout share them."""
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [folder for folder in sys.path if folder != here]  # or this file would be the package soft_moe
    try:
        from soft_mixture_of_experts.multi_expert import MultiExpertLayer
        from soft_mixture_of_experts.soft_moe import SoftMoE as Mixture
        from soft_moe import SoftMoELayerWrapper
        from soft_moe_pytorch import SoftMoE as Pytorch
    except ImportError as error:
        raise UserError(
            f"{error}; the comparison needs: pip install soft-moe-pytorch soft-moe soft-mixture-of-experts"
        ) from None
    ours = Routed(size)
    looped = Pytorch(size.width, num_experts=size.experts, num_slots=1, expert_mult=size.hidden // size.width)
    experts = iter(looped.experts.experts)
    wrapped = SoftMoELayerWrapper(size.width, size.experts, 1, layer=lambda: next(experts))
    mixture, weights = Mixture(size.width, size.width, size.experts, 1), ours.moe.experts
    inner = MultiExpertLayer(size.width, size.hidden, size.experts, device="meta")
    outer = MultiExpertLayer(size.hidden, size.width, size.experts, device="meta")
    inner.weight, inner.bias, outer.weight, outer.bias = weights.w1_EDH, weights.b1_EH, weights.w2_EHD, weights.b2_ED
    mixture.experts = nn.Sequential(inner, nn.GELU(), outer)
    return {
        OURS: ours,
        "soft-moe-pytorch": looped,
        "soft-moe": wrapped,
        "soft-mixture-of-experts": mixture,
    }


@contextmanager
def glibc_defaults() -> Iterator[None]:
    """Run with the thresholds that glibc reaches by itself once blocks of up to 32 MiB were freed."""
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 65536)
    libc.mallopt(M_MMAP_THRESHOLD, 32 * MIB)
    libc.mallopt(M_TRIM_THRESHOLD, 64 * MIB)
    return_freed_memory()
    try:
        yield
    finally:
        keep_freed_memory.__wrapped__()  # once more: the function remembers that it was called


def step_of(module: nn.Module, x_BMD: Tensor, upstream_BMD: Tensor) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step without optimiser, and what drops its gradients."""
    tensors = [x_BMD, *module.parameters()]

    def clear() -> None:
        for tensor in tensors:
            tensor.grad = None

    def step() -> None:
        clear()
        module(x_BMD).backward(upstream_BMD)

    return step, clear


def forward_of(module: nn.Module, x_BMD: Tensor) -> Callable[[], None]:
    """Inference."""

    def forward() -> None:
        with torch.no_grad():
            module(x_BMD)

    return forward


def flops_of(candidate: Candidate, module: nn.Module) -> int:
    """FLOPs of the matrix products of one step, which must reach every weight."""
    with FlopCounterMode(display=False) as counter:
        candidate.step()
    without = [name for name, parameter in module.named_parameters() if parameter.grad is None]
    if without:
        raise RuntimeError(f"no gradient: {without}")
    candidate.clear()
    return counter.get_total_flops()


def table(laps: Laps, names: list[str], bound: float, note: str) -> None:
    """Median and least time in ms, ratios to remind's and to the bound."""
    print(
        f"\n| {note} | ms | least | ÷ {names[0]} | 95 % interval | ÷ bound ({bound * 1e3:.3g} ms) | fresh memory, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in names:
        middle, low, high = ratio(laps, name, names[0])
        fresh = median(lap.fresh for lap in laps[name]) / 1e6
        least = min(lap.seconds for lap in laps[name])
        cells = f"{seconds(laps, name) * 1e3:.4g} | {least * 1e3:.4g} | {middle:.2f} | {low:.2f}–{high:.2f}"
        print(f"| {name} | {cells} | {seconds(laps, name) / bound:.2f} | {fresh:.0f} |")


def parser_of(text: str) -> argparse.ArgumentParser:
    """Options of a benchmark whose candidates take turns."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--repeats", type=int, default=20, help="turns of each candidate")
    parser.add_argument("--steps", type=int, default=1, help="timed steps of a turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: for one thread on a busy machine"
    )
    return parser


def main() -> None:
    """Print the tables."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--kept", action="store_true", help="keep freed memory for the packages too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not keep_freed_memory():
        raise UserError("this benchmark needs glibc")
    torch.manual_seed(0)
    size = SIZES[options.size]
    modules = build(size)
    x_BMD = torch.randn(size.batch, size.tokens, size.width, requires_grad=True)
    upstream_BMD = torch.randn(size.batch, size.tokens, size.width)
    steps, forwards = {}, {}
    for name, module in modules.items():
        step, clear = step_of(module, x_BMD, upstream_BMD)
        forward = forward_of(module, x_BMD)
        context = nullcontext if options.kept or name == OURS else glibc_defaults
        steps[name] = Candidate(step, context, clear)
        forwards[name] = Candidate(forward, context)
        if name == OURS:
            steps[DEFAULT] = Candidate(step, glibc_defaults, clear)
            forwards[DEFAULT] = Candidate(forward, glibc_defaults)
    print(
        f"{size}, {platform.processor() or platform.machine()}, torch {torch.__version__}, {options.threads} threads,"
    )
    print(f"{options.repeats} turns of {options.steps}, {options.clock} time")
    flops = {name: flops_of(steps[name], module) for name, module in modules.items()}
    for name, module in modules.items():
        weights = sum(parameter.numel() for parameter in module.parameters())
        print(f"{name}: {weights / 1e6:.1f} M parameters, {flops[name] / 1e9:.3g} GFLOP a step")
    square = torch.randn(2048, 2048)
    product = {"product": Candidate(lambda: square @ square)}
    laps = take_turns(steps | product, options.repeats, options.steps, options.clock)
    rate = 2 * 2048**3 / min(lap.seconds for lap in laps["product"])
    print(f"matrix products: {rate / 1e9:.4g} GFLOP/s at best")
    table(laps, list(steps), flops[OURS] / rate, f"{options.size}, forward and backward")
    best = min(ratio(laps, name, OURS)[0] for name in modules if name != OURS)
    print(f"best of the packages ÷ remind: {best:.2f}")
    laps = take_turns(forwards, options.repeats, options.steps, options.clock)
    table(laps, list(forwards), flops[OURS] / 3 / rate, f"{options.size}, forward alone")
    print()
    for name in (OURS, DEFAULT):
        if (peak := peak_bytes(steps[name])) is not None:
            print(f"{name}: at most {peak / 1e6:.0f} MB beyond the weights in three steps")
    print(DIFFERENCES)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
