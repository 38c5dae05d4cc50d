"""Export a module as programs that run without this library: `torch.export` (.pt2) and ONNX."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from remind.errors import UserError

PT2, ONNX = ".pt2", ".onnx"
BATCH = "patients"
OPSET = 18
TRACED = 3  # patients of the example; the exporter would treat 0 and 1 as constants


class Program(Protocol):
    """A module to export, with example inputs of artificial patients."""

    def example(self, patients: int) -> tuple[Tensor, ...]:
        """Return its inputs."""


@dataclass(frozen=True)
class Signature:
    """Names of a program's inputs and outputs; the first axis of each is the batch."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


FUSION = Signature(("tokens", "presence"), ("logits", "gate_open"))
TABLE = Signature(("values",), ("tokens",))


def require_onnx() -> None:
    """Check that the packages of the extra `export` are installed.

    Raises
    ------
    UserError
        ONNX, its runtime or its exporter is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'federated-remind[export]'") from None


def write_programs(module: nn.Module, signature: Signature, stem: Path) -> list[Path]:
    """Write ``stem.pt2`` and ``stem.onnx``.

    Parameters
    ----------
    module
        A `Program`, in eval mode.
    signature
        Names of its inputs and outputs.
    stem
        Path without suffix.
    """
    program = record(module, signature)
    pt2, onnx = stem.with_suffix(PT2), stem.with_suffix(ONNX)
    torch.export.save(program, pt2)
    with _quiet():
        made: Any = torch.onnx.export(
            program,
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        made.save(onnx, external_data=False)
    return [pt2, onnx]


def record(module: nn.Module, signature: Signature) -> torch.export.ExportedProgram:
    """Return the module's operations as a program for any number of patients."""
    example: tuple[Tensor, ...] = module.example(TRACED)  # type: ignore[operator]
    patients = torch.export.Dim(BATCH, min=1)
    shapes = {name: {0: patients} for name in signature.inputs}
    with torch.no_grad(), _quiet():
        return torch.export.export(module, example, dynamic_shapes=shapes, strict=False)


def run_pt2(path: Path, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the outputs of a saved `torch.export` program."""
    with torch.no_grad():
        outputs = torch.export.load(path).module()(*inputs)
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def run_onnx(path: Path, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the outputs of an ONNX program, computed by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    given = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    return [torch.from_numpy(array) for array in session.run(None, given)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporters' messages, which concern their own code; `check` compares the results on patients."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
