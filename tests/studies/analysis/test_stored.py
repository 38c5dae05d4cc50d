import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from remind.errors import UserError
from remind_studies.analysis.stored import read_run
from remind_studies.analysis.trained import compare


@pytest.fixture
def copy(folder, tmp_path):
    """A run that may be damaged."""
    return shutil.copytree(folder, tmp_path / "copy")


def change(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_run_is_read_as_it_was(run, folder):
    content = json.loads((folder / "config.json").read_text())
    assert run.config.model_dump(mode="json") == content["config"]
    assert run.counts == content["sites"]
    assert all(torch.equal(run.tensors()[n], t) for n, t in load_file(folder / "model.safetensors").items())


def test_weights_are_those_of_the_rounds(run, folder):
    rows = [json.loads(line) for line in (folder / "groups.jsonl").read_text().splitlines()]
    weights = run.weights()
    assert [w.rounds for w in weights] == [0, 1, 2, 3, 4]
    assert weights[0].of == {row["mask"]: row["lambda"] for row in rows if row["round"] == 1}
    assert weights[4].of == {row["mask"]: row["lambda_next"] for row in rows if row["round"] == 4}
    assert all(sum(w.of.values()) == pytest.approx(1) for w in weights)


def test_a_folder_of_runs_is_not_a_run(folder):
    with pytest.raises(UserError, match=rf"no config\.json; did you mean .*{folder.name}\?"):
        read_run(folder.parent)


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json; give the results folder"):
        read_run(tmp_path)


def test_a_run_of_real_hospitals(copy):
    shutil.rmtree(copy / "sites")
    with pytest.raises(UserError, match="real hospitals"):
        read_run(copy)


def test_a_run_that_has_not_finished(copy):
    (copy / "summary.json").unlink()
    with pytest.raises(UserError, match="has not finished"):
        read_run(copy)


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"config": {}, "sites": 3}'])
def test_a_config_that_is_none(copy, text):
    (copy / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: is not"):
        read_run(copy)


def test_a_run_of_another_version(copy):
    content = json.loads((copy / "config.json").read_text())
    change(copy, config=content["config"] | {"no_such_thing": 1})
    with pytest.raises(UserError, match=r"no_such_thing: .*another version"):
        read_run(copy)


def test_a_run_with_refused_hospitals(copy):
    change(copy, refused={"site-9": "another schema"})
    with pytest.raises(UserError, match="site-9"):
        read_run(copy)


def test_a_cohort_that_has_changed(copy, tmp_path):
    counts = json.loads((copy / "config.json").read_text())["sites"]
    group = next(iter(counts["site-2"]))
    counts["site-2"][group] += 1
    change(copy, sites=counts)
    with pytest.raises(UserError, match=r"no longer those of the run \(training patients of site-2 differ\)"):
        read_run(copy).hospitals(tmp_path, stored=True)


@pytest.mark.parametrize(("name", "method"), [("model.safetensors", "tensors"), ("groups.jsonl", "weights")])
@pytest.mark.parametrize("damage", ["gone", "garbled"])
def test_files_that_are_damaged(copy, name, method, damage):
    (copy / name).unlink() if damage == "gone" else (copy / name).write_text("{]")
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        getattr(read_run(copy), method)()


def test_looking_leaves_the_run_as_it_was(copy, tmp_path):
    before = {path: path.read_bytes() for path in sorted(copy.rglob("*")) if path.is_file()}
    run = read_run(copy)
    with run.hospitals(tmp_path, stored=True).in_use(run.tensors(), True) as views:
        for view in views:
            list(view.outputs(view.engine.patients.index[0]))
    assert {path: path.read_bytes() for path in sorted(copy.rglob("*")) if path.is_file()} == before


def test_models_are_compared_to_the_last_bit(folder, tmp_path):
    one = load_file(folder / "model.safetensors")
    assert compare(one, one).equal
    other = {name: tensor.clone() for name, tensor in one.items()}
    name = next(iter(other))
    other[name].view(-1)[0] += 0.5
    found = compare(one, other)
    assert (found.equal, found.differing) == (False, 1)
    assert found.largest == pytest.approx(0.5)
    save_file(other, tmp_path / "other.safetensors")
    del other[name]
    assert compare(one, other).largest is None
    assert compare(one, other).differing == 1
