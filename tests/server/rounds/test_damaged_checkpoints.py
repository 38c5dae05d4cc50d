"""A checkpoint that is damaged in any way is read as it was written, or named and the one before it used."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.config import Config
from remind.errors import UserError
from remind.methods import methods_of
from remind_server.rounds.checkpoints import Checkpoints
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.mutations import damaged
from tests.builders.sites import site


class File(bytes):
    """Bytes that are not printed where a test fails."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a run, and the bytes of its newest checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    config = Config.from_flat(BASE | {"method.rule": "fedadam", "federation.encoders": "shared"})
    checkpoints = Checkpoints(folder, 2)
    grid = SiteGrid([site("s", cohort([1, 3] * 8), config, tmp_path_factory.mktemp("hospitals"))])
    FedRemind(config, [], checkpoints=checkpoints).run(grid)
    newest = max(checkpoints.folder.glob("round-*"))
    return checkpoints, newest, File(newest.read_bytes())


def newest(checkpoints, said):
    return checkpoints.newest(lambda config: methods_of(config).weighing, said.append)


@settings(max_examples=60)
@given(data=st.data())
def test_it_is_read_as_written_or_the_one_before_it(written, data):
    checkpoints, path, content = written
    path.write_bytes(content)
    whole = newest(checkpoints, [])
    path.write_bytes(data.draw(damaged(content)))
    said: list[str] = []
    found = newest(checkpoints, said)
    if said:
        assert str(path) in said[0]
        assert found.state.round == whole.state.round - 1
        return
    assert found.state.round == whole.state.round
    assert found.start.config == whole.start.config
    assert found.roster == whole.roster
    assert all(torch.equal(t, whole.state.model.tensors[n]) for n, t in found.state.model.tensors.items())
    assert all(torch.equal(t, whole.state.memory[n]) for n, t in found.state.memory.items())


@pytest.mark.parametrize("left", [b"", b"\x00" * 8, b"not a model"])
def test_without_one_that_can_be_read_each_is_named(written, left):
    checkpoints, path, content = written
    others = {other: other.read_bytes() for other in checkpoints.folder.glob("round-*")}
    for other in others:
        other.write_bytes(left)
    with pytest.raises(UserError, match="no checkpoint can be resumed from") as caught:
        newest(checkpoints, [])
    assert all(str(other) in str(caught.value) for other in others)
    for other, kept in others.items():
        other.write_bytes(kept)
    path.write_bytes(content)
