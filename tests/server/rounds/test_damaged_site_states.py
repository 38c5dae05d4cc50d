"""Damaged files of a simulated site: the resumed run goes back to a whole checkpoint or refuses, and names the file."""

import shutil
import zipfile

import pytest
import torch

from remind.config import Config
from remind.errors import UserError
from remind.methods import methods_of
from remind.site_files import FOLDER, INDEX, STATE, encoder_file
from remind_server.outputs.records import Observer
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.checkpoints import Checkpoints, resumable
from remind_server.rounds.recovery import Recovery
from remind_server.simulation.simulate import simulate
from tests.builders.configs import BASE

SETTINGS = BASE | {
    "train.warmup-rounds": 3,
    "train.routing-rounds": 1,
    "synthetic.patients": 80,
    "federation.checkpoints": 2,
}


class Killed(BaseException):
    pass


class Models(Observer):
    def __init__(self):
        self.last = {}

    def round_done(self, record, tensors):
        self.last = {name: tensor.clone() for name, tensor in tensors.items()}


def config_of(folder):
    return Config.from_flat(SETTINGS | {"results": str(folder)})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    models, config = Models(), config_of(tmp_path_factory.mktemp("whole"))
    simulate(config, 2, [models])
    return models.last


@pytest.fixture(scope="module", params=["before round 4", "in round 3"])
def killed(request, tmp_path_factory):
    """A run whose process died: after the checkpoint of round 3, or when both sites had done it, but none was there."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    config, save = config_of(folder), Recovery.save

    def dies(self, state, *given):
        if request.param == "before round 4":
            save(self, state, *given)
        if state.round == 3:
            raise Killed
        save(self, state, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recovery, "save", dies)
        with pytest.raises(Killed):
            simulate(config, 2, [RunFolder(folder)], checkpoints=Checkpoints(folder))
    return folder


def copied(killed, tmp_path, damage):
    folder = tmp_path / "run"
    shutil.copytree(killed, folder)
    damage(folder / FOLDER / "1")
    return folder


def newest(folder):
    """The round of the checkpoint from which the run in this folder would be resumed, and what is said."""
    said = []
    found = Checkpoints(folder).newest(lambda config: methods_of(config).weighing, said.append)
    return found.state.round, "\n".join(said)


def resume(folder):
    models, (config, clients) = Models(), resumable(folder)
    simulate(config, clients, [RunFolder(folder, resumes=True), models], checkpoints=Checkpoints(folder))
    return models.last


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def flipped(path):
    """Flip a bit of the largest tensor; torch leaves gaps between tensors, where a flipped bit harms nothing."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as parts:
        part = max(parts.infolist(), key=lambda part: part.file_size)
    header = part.header_offset
    begin = header + 30 + sum(int.from_bytes(content[header + at : header + at + 2], "little") for at in (26, 28))
    content[begin + part.file_size // 2] ^= 1
    path.unlink()  # versions are links to the same file
    path.write_bytes(content)


def truncated(path):
    content = path.read_bytes()[:-100]
    path.unlink()
    path.write_bytes(content)


def missing(path):
    path.unlink()


def of_another_round(path):
    other = next(p for p in sorted(path.parent.glob(f"{STATE}~*")) if p.read_bytes() != path.read_bytes())
    path.unlink()
    shutil.copyfile(other, path)


def of_another_site(path):
    path.unlink()
    shutil.copyfile(path.parent.parent / "0" / path.name, path)


DAMAGES = [flipped, truncated, missing, of_another_round, of_another_site]


def newest_number(folder):
    return max(int(path.stem.removeprefix("round-")) for path in (folder / "checkpoints").glob("round-*"))


def needed(site):
    """The state from which the site continues after the newest checkpoint."""
    version = site / f"{STATE}~{newest_number(site.parent.parent)}"
    return version if version.is_file() else site / STATE


def test_an_undamaged_run_is_resumed_from_its_newest_checkpoint(killed, whole, tmp_path):
    folder = copied(killed, tmp_path, lambda site: None)
    assert newest(folder) == (newest_number(folder), "")
    assert equal(resume(folder), whole)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_costs_a_round_and_is_named(damage, killed, tmp_path):
    folder = copied(killed, tmp_path, lambda site: damage(needed(site)))
    round_, said = newest(folder)
    assert round_ == newest_number(folder) - 1
    assert f"sites/1/{STATE}" in said
    assert f"resuming from the checkpoint before it, after round {round_}" in said


def test_a_run_that_goes_back_equals_an_uninterrupted_one(killed, whole, tmp_path):
    assert equal(resume(copied(killed, tmp_path, lambda site: flipped(needed(site)))), whole)


@pytest.mark.parametrize("damage", [flipped, truncated, missing])
def test_a_damaged_encoder_is_named(damage, killed, tmp_path):
    def newest_encoder(site):
        state = torch.load(needed(site), weights_only=True)
        damage(site / encoder_file(*next(iter(state["encoders"].items()))))

    folder = copied(killed, tmp_path, newest_encoder)
    round_, said = newest(folder)
    assert round_ == newest_number(folder) - 1
    assert "sites/1/encoder-" in said


@pytest.mark.parametrize(
    "damage",
    [
        shutil.rmtree,
        lambda site: [flipped(path) for path in site.glob(f"{STATE}*")],
        lambda site: missing(site / INDEX),
        lambda site: (site / INDEX).write_text("{}"),
        lambda site: (site / INDEX).write_text('{"1": ['),
    ],
    ids=["folder", "all states", "no index", "empty index", "half an index"],
)
def test_without_a_whole_checkpoint_nothing_is_resumed(damage, killed, tmp_path):
    found = r"no checkpoint can be resumed from(?s:.*)sites/1/(?s:.*)restore it from a copy"
    with pytest.raises(UserError, match=found):
        resumable(copied(killed, tmp_path, damage))
