"""Exported programs: every fusion model is exported for any batch size, or refuses by name."""

from typing import Any

import pytest
import torch

from remind.config import EncoderConfig, ModelConfig
from remind.data.cohort.kinds.table import TableSchema
from remind.encoders import build_encoder
from remind.errors import UserError
from remind.export.modules import FusionProgram, TableProgram
from remind.export.programs import FUSION, TABLE, record, run_onnx, run_pt2, write_programs
from remind.fusion.base import registry
from tests.builders.fusions import context, model, noisy, patients

METHODS = {method.name: method.build.not_exported for method in registry.methods()}
BATCH = (5, 2, 7, 5, 1, 6, 3, 4, 5)  # 3, 4 and 6 are unknown to the model


def given(of, groups=BATCH, dtype=torch.float32):
    """Tokens and presence; absent modalities hold NaN."""
    batch = patients(of, groups, dtype=dtype)
    for i, z in enumerate(batch.tokens):
        z[~batch.presence[:, i]] = torch.nan
    return torch.cat(batch.tokens, dim=1), batch.presence


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((method.name, "") for method in registry.methods() if not method.build.compares),
        ("moe_retriever", "end-to-end = false"),
    ],
)
def test_the_recorded_form_of_every_method_is_the_model_itself(name, options):
    of = context()
    fusion = noisy(model(name, of, (5, 2, 7, 1), options=options))
    program = FusionProgram(fusion, routing=not METHODS[name]).eval()
    recorded = record(program, FUSION).module()
    for groups in (BATCH, BATCH[5:6], (7, 7)):
        inputs = given(of, groups)
        with torch.no_grad():
            expected, found = program(*inputs), recorded(*inputs)
        for e, f in zip(expected, found, strict=True):
            torch.testing.assert_close(f, e, rtol=0, atol=1e-6)


def test_only_methods_that_need_training_patients_stay_in_their_hospital():
    assert {name for name, reason in METHODS.items() if reason} == {"m3care", "moe_retriever", "muse"}
    assert all("training patients" in reason for reason in METHODS.values() if reason)


@pytest.mark.parametrize("name", ["remind"])
def test_saved_programs_give_the_same_with_and_without_torch(name, tmp_path):
    of = context()
    program = FusionProgram(noisy(model(name, of, (5, 2, 7, 1))), True).eval()
    inputs = given(of)
    with torch.no_grad():
        expected = program(*inputs)
    pt2, onnx = write_programs(program, FUSION, tmp_path / "fusion")
    for found in (run_pt2(pt2, inputs), run_onnx(onnx, inputs)):
        for e, f in zip(expected, found, strict=True):
            torch.testing.assert_close(f, e, rtol=0, atol=1e-5)
    alone = run_onnx(onnx, [x[:1] for x in inputs])
    torch.testing.assert_close(alone[0], expected[0][:1], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, reason in METHODS.items() if not reason])
def test_every_method_without_torch(name, tmp_path):
    of = context()
    for groups in ((5, 2, 7, 1), (of.full,), ()):
        fusion = noisy(model(name, of, groups))
        program = FusionProgram(fusion, True).eval()
        with torch.no_grad():
            expected = program(*given(of))
        _, onnx = write_programs(program, FUSION, tmp_path / "fusion")
        for e, f in zip(expected, run_onnx(onnx, given(of)), strict=True):
            torch.testing.assert_close(f, e, rtol=0, atol=1e-5)
        if not fusion.known_groups():
            break  # no part belongs to a group: the model is the same whichever it was told


def test_a_tables_encoder_with_missing_values_and_levels(tmp_path):
    schema = TableSchema(name="x", columns=("p", "q", "r"), categories={"q": ("lo", "hi", "mid")})
    encoder: Any = build_encoder(schema, ModelConfig(width=8, heads=2, tokens=2), seed=1).eval()
    encoder.mean_F[0], encoder.std_F[0] = 3.0, 0.1
    nan = torch.nan
    values = torch.tensor([[1.0, 2, nan], [nan, nan, nan], [1e9, 0, -3]])
    program = TableProgram(encoder, schema.columns)
    with torch.no_grad():
        expected = program(values)
    pt2, onnx = write_programs(program, TABLE, tmp_path / "x")
    torch.testing.assert_close(run_pt2(pt2, [values])[0], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(run_onnx(onnx, [values])[0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(run_onnx(onnx, [values[:1]])[0], expected[:1], rtol=0, atol=1e-5)


def test_what_a_hospital_knows_alone_is_in_no_program():
    of = context(encoders=EncoderConfig(alone="linear"))
    with pytest.raises(UserError, match=r"model\.encoders\.alone"):
        FusionProgram(model("remind", of, (1, 3)), True)


def test_parts_and_a_projection_are_in_the_program():
    of = context(projection=True)
    fusion = noisy(model("remind", of, (5, 2, 7, 1), options="compose = true, rank = 1"))
    program = FusionProgram(fusion, True).eval()
    recorded = record(program, FUSION).module()
    inputs = given(of, BATCH)
    with torch.no_grad():
        for e, f in zip(program(*inputs), recorded(*inputs), strict=True):
            torch.testing.assert_close(f, e, rtol=0, atol=1e-6)
