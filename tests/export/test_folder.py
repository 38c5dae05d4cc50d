"""`remind export` writes a complete folder that equals the run's model, without data that must not leave."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open

from remind.errors import UserError
from remind.export import check, folder
from remind.export.card import Wishes
from remind.export.folder import export_run
from remind.export.programs import run_onnx, write_programs
from remind.export.settings import preprocessing
from remind.metrics.calibration import Calibration, write_calibration
from remind.prediction.predictor import load
from tests.builders.cohorts import cohort, schema
from tests.builders.served import trained

HOSPITALS = ("north", "south")


@pytest.fixture(scope="module", autouse=True)
def _a_model_becomes_a_program_once(tmp_path_factory):
    """Recording and converting the same model again takes seconds; each folder gets, and checks, a copy."""
    made, kept = {}, tmp_path_factory.mktemp("programs")

    def write_once(module, signature, stem):
        state = {name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()}
        key = (signature, vars(module).get("routing"), frozenset(state.items()))
        if key not in made:
            made[key] = write_programs(module, signature, kept / f"{len(made)}")
        copies = [stem.with_suffix(path.suffix) for path in made[key]]
        for path, copy in zip(made[key], copies, strict=True):
            shutil.copyfile(path, copy)
        return copies

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "write_programs", write_once)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    results, patients = trained(tmp_path_factory.mktemp("export") / "run")
    write_calibration(results / "calibration.json", Calibration.none(schema().classes, 2))
    return results, patients


@pytest.fixture(scope="module")
def plain(run, tmp_path_factory):
    """The run exported without a hospital's encoders."""
    out = tmp_path_factory.mktemp("plain") / "out"
    return out, export_run(run[0], out, Wishes(10), run[1])


@pytest.fixture(scope="module")
def with_site(run, tmp_path_factory):
    """With the encoders of north, which did not agree to be named."""
    out = tmp_path_factory.mktemp("site") / "out"
    return out, export_run(run[0], out, Wishes(10, site="north", hospitals=("south",), licence="apache-2.0"), run[1])


def test_the_folder_has_what_its_card_says_and_no_encoder(plain):
    out, done = plain
    card = ModelCard.load(out / "README.md")
    assert card.data.library_name == "federated-remind"
    assert card.data.license == "unknown"
    assert card.data.eval_results is None, "9 test patients of a class: no score may be shown"
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {
        *("README.md", "calibration.json", "config.json", "model.safetensors", "preprocessing.json", "schema.json"),
        *("programs/fusion.onnx", "programs/fusion.pt2"),
    }
    assert all(f"`{name}`" in card.text for name in files - {"README.md"})
    assert "**What a hospital still has to add.**" in card.text
    assert "for: a, b, c." in card.text
    assert "took part in the training has them already" in card.text
    assert done.lacking == ("a", "b", "c")
    with pytest.raises(UserError, match="They stay at the hospitals"):
        load(out).outputs(cohort([1, 3]))


def test_the_program_is_the_model_on_the_runs_own_patients(plain):
    _, done = plain
    assert len(done.checked) == 2
    assert all("the run's own patients" in line for line in done.checked)


@pytest.mark.slow
def test_predict_works_where_encoders_are_included_and_says_the_same(run, with_site):
    (results, patients), (out, done) = run, with_site
    expected = load(results, "north").outputs(patients["north"])
    found = load(out).outputs(patients["north"])
    assert np.array_equal(found.log_p_NC, expected.log_p_NC)
    assert np.array_equal(found.decision_N, expected.decision_N)
    assert done.lacking == ()
    assert [line.split("`")[1] for line in done.checked] == [
        *("fusion.pt2", "fusion.onnx", "encoder-a.pt2", "encoder-a.onnx", "encoder-c.pt2", "encoder-c.onnx")
    ]


def test_encoder_and_fusion_in_a_row_need_no_torch_of_ours(run, with_site):
    """A table-only patient through both ONNX programs: the probabilities of predict."""
    (results, patients), (out, _) = run, with_site
    of = patients["north"].take(np.flatnonzero(patients["north"].groups_N == 1))
    tokens_BlD = run_onnx(out / "programs/encoder-a.onnx", [torch.from_numpy(of.modalities["a"].values_NF)])[0]
    tokens_BMD = torch.full((len(of), 8, tokens_BlD.shape[2]), torch.nan)
    tokens_BMD[:, : tokens_BlD.shape[1]] = tokens_BlD
    logits_BC, _ = run_onnx(out / "programs/fusion.onnx", [tokens_BMD, torch.from_numpy(of.presence_Nm)])
    expected = load(results, "north").outputs(of).log_p_NC
    np.testing.assert_allclose(logits_BC.log_softmax(dim=1).numpy(), expected, atol=1e-5)


def test_no_small_count_and_no_name_leaves(run, with_site, plain):
    for out, _ in (plain, with_site):
        card = (out / "README.md").read_text()
        rows = {line.split("|")[1].strip(): line for line in card.splitlines() if line.startswith("| a")}
        trained_on = {name: line.split("|")[2].strip() for name, line in rows.items()}
        assert trained_on["a+b"] == "12"
        assert trained_on["a"] == trained_on["a+c"] == "–", "6 patients each"
        assert "| 6 |" not in card
        everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
        assert b"north" not in everything
        with safe_open(out / "model.safetensors", "pt") as file:
            metadata = file.metadata()
        assert json.loads(metadata["counts"]) == {"1": 9, "3": 12, "5": 9, "7": 18}
        assert set(json.loads(metadata["weights"])) == {"3", "7"}, "λ follows the counts"
    assert "south" in (with_site[0] / "README.md").read_text()
    assert "south" not in (plain[0] / "README.md").read_text()


def naming(run, results, **named):
    """The run's tables, with what the hospitals' policies say of their names."""
    results.mkdir()
    for path in run[0].glob("*.*"):
        (results / path.name).write_bytes(path.read_bytes())
    config = json.loads((results / "config.json").read_text())
    (results / "config.json").write_text(json.dumps(config | {"named": named}))
    return results


def test_a_hospital_is_named_where_its_policy_agreed_and_nowhere_else(run, tmp_path):
    assert json.loads((run[0] / "config.json").read_text())["named"] == {}, "virtual hospitals have no policy"
    results = naming(run, tmp_path / "run", north=False, south=True)
    with pytest.raises(UserError, match=r"hospital north: its policy did not allow[\s\S]*share_name = true"):
        export_run(results, tmp_path / "out", Wishes(10, hospitals=("north",)), {})
    assert not (tmp_path / "out").exists()
    export_run(results, tmp_path / "out", Wishes(10), {})
    card = (tmp_path / "out" / "README.md").read_text()
    assert "hospitals, among them south" in card
    assert "north" not in card


@pytest.mark.slow
def test_ranges_of_training_values_leave_only_where_they_are_wanted(run, with_site, tmp_path):
    assert not load(with_site[0]).bundle.part("hospital").ranges.numbers
    export_run(run[0], tmp_path / "out", Wishes(1, site="north", ranges=True, hospitals=HOSPITALS), run[1])
    assert load(tmp_path / "out").bundle.part("north").ranges.numbers["a"]["p"].n == 18
    shown = ModelCard.load(tmp_path / "out" / "README.md").data.eval_results
    assert {one.metric_type for one in shown} >= {"accuracy", "roc_auc"}


@pytest.mark.slow
def test_a_patients_words_in_names_stay_words(run, tmp_path):
    results = tmp_path / "run"
    results.mkdir()
    for path in run[0].glob("*.*"):
        (results / path.name).write_bytes(path.read_bytes())
    wishes = Wishes(10, hospitals=("<script>|x\n# y",), intended_use="To learn.")
    export_run(results, tmp_path / "out", wishes, {})
    card = (tmp_path / "out" / "README.md").read_text()
    assert "(script)/x # y" in card
    assert "To learn." in card
    assert "artificial patients" in card


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        (Wishes(10, site="west"), "contains no encoders of hospital 'west'"),
        (None, "exists already; give a new folder"),
    ],
)
def test_mistakes_leave_nothing(run, tmp_path, wishes, message):
    out = tmp_path / "out"
    if wishes is None:
        out.mkdir()
    with pytest.raises(UserError, match=message):
        export_run(run[0], out, wishes or Wishes(10), run[1])
    assert sorted(tmp_path.iterdir()) == ([out] if wishes is None else [])


@pytest.mark.slow
def test_a_program_that_differs_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "run_onnx", lambda path, inputs: [x + 1e-3 for x in run_onnx(path, inputs)])
    with pytest.raises(UserError, match=r"fusion\.onnx: differs from the model by"):
        export_run(run[0], tmp_path / "out", Wishes(10), run[1])
    assert not list(tmp_path.iterdir())


def test_a_run_that_has_not_finished_says_so(run, tmp_path):
    results = tmp_path / "run"
    results.mkdir()
    for name in ("config.json", "model.safetensors"):
        (results / name).write_bytes((run[0] / name).read_bytes())
    with pytest.raises(UserError, match=r"final\.json: is missing; export a run that has finished"):
        export_run(results, tmp_path / "out", Wishes(10), {})


@pytest.mark.slow
def test_what_retrieves_from_training_patients_has_no_program_and_no_site(tmp_path):
    results, patients = trained(tmp_path / "run", **{"method.fusion": "moe_retriever"})
    done = export_run(results, tmp_path / "out", Wishes(10), patients)
    assert "training patients" in done.not_exported
    assert "moe_retriever" in (tmp_path / "out" / "README.md").read_text()
    assert not list((tmp_path / "out" / "programs").iterdir())
    with pytest.raises(UserError, match="they do not leave the hospital"):
        export_run(results, tmp_path / "second", Wishes(10, site="north"), patients)


@pytest.mark.slow
def test_what_a_hospital_knows_alone_has_no_program_and_no_site(tmp_path):
    results, patients = trained(tmp_path / "run", **{"model.encoders.alone": "linear"})
    done = export_run(results, tmp_path / "out", Wishes(10), patients)
    assert "model.encoders.alone" in done.not_exported
    assert not list((tmp_path / "out" / "programs").iterdir())
    assert b"content_T" not in (tmp_path / "out" / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="with a digest of each"):
        export_run(results, tmp_path / "second", Wishes(10, site="north"), patients)


def test_statistics_leave_only_where_the_cohort_declares_them(run):
    bundle = load(run[0], "north").bundle
    found = preprocessing(bundle)
    assert found["a"] == {"kind": "table", "statistics": found["a"]["statistics"]}
    assert "each hospital's own" in found["a"]["statistics"]
    given = bundle.schema.modalities[0].model_copy(
        update={"standardise": "given", "mean": {"p": 1.0, "r": 2.0}, "std": {"p": 1.0, "r": 3.0}}
    )
    of = bundle.schema.model_copy(update={"modalities": (given, *bundle.schema.modalities[1:])})
    assert preprocessing(replace(bundle, schema=of))["a"]["mean"] == {"p": 1.0, "r": 2.0}
