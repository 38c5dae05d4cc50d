"""Compare the exported programs with the model, on patients, when the model is exported.

The gate opens if an entropy exceeds a threshold. Rounding may move a patient across the threshold, and the logits then
differ by more than rounding. Such patients are counted separately; more than one in a hundred is an error.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from remind.data.batches.batch import SiteData
from remind.data.cohort.cohort import Cohort
from remind.errors import UserError
from remind.export.modules import FusionProgram, TableProgram
from remind.export.programs import run_onnx, run_pt2
from remind.prediction.bundle import Bundle
from remind.prediction.model import LoadedModel

CLOSE = 1e-5  # largest difference allowed for a logit or a token; relative for values above 1
CHUNK = 256
MADE_UP = 64


@dataclass(frozen=True)
class Inputs:
    """Tokens (B, M, D) and presence (B, m) of patients, and a text that says where they come from."""

    tokens: Tensor
    presence: Tensor
    of: str


def inputs_of(bundle: Bundle, patients: Mapping[str, Cohort], program: FusionProgram) -> Inputs:
    """Return patients of the run as inputs of the fusion model; artificial ones if no hospital's part is available."""
    at_hand = [name for name in bundle.sites if name in patients]
    parts = [_tokens(bundle, name, patients[name]) for name in at_hand]
    if not parts:
        tokens, presence = program.example(MADE_UP)
        generator = torch.Generator().manual_seed(bundle.config.seed)
        presence = torch.rand(presence.shape, generator=generator) < 0.6
        presence[~presence.any(dim=1), 0] = True
        drawn = torch.randn(tokens.shape, generator=generator, dtype=tokens.dtype)
        return Inputs(drawn, presence, f"{MADE_UP} artificial patients (the run's own are not here)")
    tokens = torch.cat([tokens for tokens, _ in parts])
    presence = torch.cat([presence for _, presence in parts])
    return Inputs(tokens, presence, "the run's own patients")


def check_fusion(program: FusionProgram, inputs: Inputs, written: list[Path]) -> list[str]:
    """Compare the programs of the fusion model with the model; return the results as text.

    Raises
    ------
    UserError
        They differ by more than `CLOSE`.
    """
    lines = []
    for path in written:
        worst, moved = 0.0, 0
        for tokens, presence in _chunks(inputs):
            with torch.no_grad():
                logits, opened = program(tokens, presence)
            found, its = _run(path, [tokens, presence])
            same = opened == its
            moved += int((~same).sum())
            worst = max(worst, _apart(logits[same], found[same]))
        many = moved > max(1, len(inputs.tokens) // 100)
        if worst > CLOSE or many:
            raise UserError(
                f"{path.name}: differs from the model by {worst:.2g}; the gate differs for {moved} patients"
            )
        gate = f"; the gate differs by rounding for {moved}" if moved else ""
        lines.append(f"`{path.name}`: logits of {inputs.of} equal the model's to {worst:.1g}{gate}")
    return lines


def check_table(program: TableProgram, values: Tensor, of: str, written: list[Path]) -> list[str]:
    """Compare the programs of a table's encoder with the encoder, on the values (P, F) of patients."""
    lines = []
    for path in written:
        with torch.no_grad():
            worst = _apart(program(values), _run(path, [values])[0])
        if worst > CLOSE:
            raise UserError(f"{path.name}: differs from the encoder by {worst:.2g}")
        lines.append(f"`{path.name}`: tokens of {of} equal the encoder's to {worst:.1g}")
    return lines


def _tokens(bundle: Bundle, site: str, of: Cohort) -> tuple[Tensor, Tensor]:
    loaded = LoadedModel(bundle, bundle.part(site), torch.device("cpu"))
    data = SiteData(of.take(np.flatnonzero(of.groups_N)), loaded.dtype)
    parts = []
    with torch.no_grad():
        for start in range(0, len(data), CHUNK):
            batch = data.batch(np.arange(start, min(start + CHUNK, len(data))))
            parts.append((loaded.model.tokens(batch), batch.presence_Bm))
    return torch.cat([tokens for tokens, _ in parts]), torch.cat([presence for _, presence in parts])


def _chunks(inputs: Inputs) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(torch.split(inputs.tokens, CHUNK), torch.split(inputs.presence, CHUNK), strict=True)


def _run(path: Path, inputs: list[Tensor]) -> list[Tensor]:
    return run_pt2(path, inputs) if path.suffix == ".pt2" else run_onnx(path, inputs)


def _apart(expected: Tensor, found: Tensor) -> float:
    if not expected.numel():
        return 0.0
    return float(((expected - found).abs() / expected.abs().clamp_min(1)).max())
