"""Estimate, before a simulation starts, its parameters, processes, memory and approximate time.

A hospital's model stays in the memory of every process that has served it (`remind_client.app`), so with Ray memory
grows with hospitals × processes. The patients' own data are not counted: pictures are read when needed, the rest is
small beside the models.
"""

import os
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from remind.config import Config
from remind.data.cohort.schema import CohortSchema, ModalitySchema
from remind.durations import duration
from remind.encoders import build_encoder, positions
from remind.errors import UserError
from remind.training.eager import ShapesOnly
from remind.training.site_model import fusion_of

PROCESS = 0.7e9  # bytes of a Python process that has imported torch and Flower and has no model
STEP = 0.01  # seconds of a step with hardly any computation
EFFICIENCY = 0.7  # the share of a matrix product's rate that training reaches
GIB = 2**30


@dataclass(frozen=True)
class Size:
    """The size of one hospital's model: `work` is the multiply-adds of one forward pass, `unknown` is not counted."""

    encoders: int
    fusion: int
    work: float
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """The estimate of a simulation; `memory` and `available` in bytes, of the machine or of its GPU."""

    size: Size
    sites: int
    processes: int
    memory: float
    available: float | None
    seconds: float
    on: str = "memory"

    @property
    def too_much(self) -> bool:
        """Whether the simulation needs more memory than is available."""
        return self.available is not None and self.memory > self.available

    def __str__(self) -> str:
        size = self.size
        free = "" if self.available is None else f" ({self.available / GIB:.1f} GiB free)"
        left_out = f"; not counted: {', '.join(size.unknown)}" if size.unknown else ""
        millions = (size.encoders + size.fusion) / 1e6
        processes = f"{self.processes} process{'es' * (self.processes > 1)}"
        return (
            f"estimate: {millions:.1f} million parameters at each of {self.sites} hospitals, {processes}: "
            f"about {self.memory / GIB:.1f} GiB of {self.on}{free}, roughly {duration(self.seconds)}{left_out}"
        )


def size_of(config: Config, schema: CohortSchema, groups: Iterable[int]) -> Size:
    """Return the size of the model of a hospital with every modality, if possible without weights."""
    with torch.device("meta"), ShapesOnly():
        fusion = fusion_of(schema, config)
        fusion.add_groups(sorted(groups), config.seed)
    inner = _parameters(fusion)
    width, tokens = config.model.width, config.model.tokens * len(schema.modalities)
    slots = config.model.experts * config.model.slots
    expert = 2 * config.model.expansion * width**2  # weights that a slot is multiplied with
    attention = 4 * width**2  # weights that a token is multiplied with
    work = config.model.blocks * (slots * expert + tokens * attention + 2 * tokens * slots * width)
    encoders, unknown = 0, []
    for modality in schema.modalities:
        number = _encoder_parameters(modality, config)
        if number is None:
            unknown.append(f"the encoder of {modality.name}")
            continue
        encoders += number
        work += number * positions(modality, config.model)
    return Size(encoders, inner, float(work), tuple(unknown))


def estimate(
    config: Config, size: Size, sites: int, processes: int, coordinator: bool = True, apart: bool = False
) -> Estimate:
    """Estimate a run.

    Parameters
    ----------
    processes
        Number of processes that serve hospitals at the same time.
    coordinator
        Whether the coordinator is one process more.
    apart
        Whether each hospital has one process for the whole run; else each may serve all of them.
    """
    item = 8 if config.precision == "float64" else 4
    whole = size.encoders + size.fusion
    training = whole if config.federation.encoders != "frozen" else size.fusion
    moments = 3 if config.train.optimizer == "adamw" else 1  # the gradient, and AdamW's two moments
    served = (sites / processes if apart else sites) * whole * item + moments * training * item
    travelling = size.fusion + (size.encoders if config.federation.encoders == "shared" else 0)
    own = 4 * travelling * item  # the model, the sum of replies, and a message packed and unpacked
    rounds, train = config.train.rounds, config.train
    batch = train.batch or 256
    share = train.warmup_rounds / rounds  # stage 2 computes tokens once
    per_step = 3 * 2 * batch * (size.work if share else 0) / (_rate(config) * EFFICIENCY)
    rounds += config.model.encoders.pretraining_rounds
    seconds = sites * rounds * (train.local_steps * (STEP + per_step * max(share, 0.2)) + 0.3) / processes
    gpu = _gpu(config)
    if gpu is not None:
        return Estimate(size, sites, processes, processes * (served + 0.5e9), gpu, seconds, "GPU memory")
    memory = processes * (served + PROCESS) + own + PROCESS * coordinator
    return Estimate(size, sites, processes, memory, available_memory(), seconds)


def refuse_what_is_too_large(found: Estimate, yes: bool, remedy: str) -> None:
    """Require ``--yes`` if the machine is too small.

    Raises
    ------
    UserError
        The machine is too small and `yes` is False.
    """
    if found.too_much and not yes:
        raise UserError(f"{found}\nThis is more than there is. {remedy}; or say --yes to start all the same")


def available_memory() -> float | None:
    """Return the bytes that new processes can have in the machine or its container; None if that cannot be known."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    except OSError:
        names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
        if "SC_PHYS_PAGES" in names:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # there is no limit
            continue
    return float(min(found)) if found else None


def _encoder_parameters(modality: ModalitySchema, config: Config) -> int | None:
    encoders = config.model.encoders
    plain = {"image_weights": "random", "volume_weights": "random"}
    if encoders.text != "words":
        plain["text_weights"] = "random"
    model = config.model.model_copy(update={"encoders": encoders.model_copy(update=plain)})
    for device, how in (("meta", ShapesOnly()), ("cpu", nullcontext())):  # some backbones compute with their weights
        try:
            with torch.device(device), how:
                return _parameters(build_encoder(modality, model, config.seed))
        except Exception:  # for example, a model's description must be fetched, and there is no network
            continue
    return None


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _gpu(config: Config) -> float | None:
    if config.device == "cpu" or not torch.cuda.is_available():
        return None
    return float(torch.cuda.mem_get_info()[0])


def _rate(config: Config) -> float:
    """Measure the floating-point operations per second of a matrix product, for some milliseconds."""
    device = "cpu" if _gpu(config) is None else "cuda"
    a = torch.ones(512, 512, device=device)
    a @ a
    fastest = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * 512**3 / max(fastest, 1e-9)
