"""A run is never submitted silently to a SuperLink of another environment."""

from importlib import import_module

import pytest

from remind_server.simulation import flwr_superlink
from remind_server.simulation.flwr_superlink import (
    PATIENCE,
    Superlink,
    choose,
    differing,
    right_superlink,
    running_superlinks,
)

HERE = {"HOME": "/home/a", "FLWR_HOME": "/home/a/flwr", "PATH": "/bin", "PWD": "/x"}
PROGRAM = "/venv/bin/flower-superlink"


def link(port="39091", program=PROGRAM, **changes):
    return Superlink(1, port, program, HERE | changes)


def chosen(*running, answering=None, environment=HERE, known=True):
    answering = {one.port for one in running} if answering is None else answering
    return choose("39091", running if known else None, answering.__contains__, environment, PROGRAM, lambda: "50000")


def test_nobody_there_is_flowers_own_way():
    assert chosen() == chosen(known=False) == choose("39091", (), lambda _: False, HERE, PROGRAM, lambda: "1")
    assert (chosen().port, chosen().note, chosen().in_memory) == ("39091", "", False)


def test_the_same_environment_is_served_by_what_is_there():
    theirs = {"PWD": "/elsewhere", "FLWR_DISABLE_UPDATE_CHECK": "1", "TORCHINDUCTOR_CACHE_DIR": "/tmp/torchinductor_a"}
    assert chosen(link(TERM="vt100", **theirs)).port == "39091"


@pytest.mark.parametrize(
    "name",
    [
        "FLWR_HOME",
        "MLFLOW_TRACKING_URI",
        "HF_HOME",
        "CUDA_VISIBLE_DEVICES",
        "REMIND_STORE",
        "https_proxy",
        "PYTHONPATH",
    ],
)
def test_another_environment_gets_a_superlink_of_its_own_and_is_told(name):
    made = chosen(link(**{name: "other"}))
    assert made.port == "50000"
    assert name in made.note
    assert "50000" in made.note


def test_two_of_one_home_do_not_share_its_database():
    assert chosen(link(HF_HOME="/cache")).in_memory
    assert not chosen(link(FLWR_HOME="/home/b/flwr")).in_memory
    default = {"HOME": "/home/a"}
    assert differing(default, default | {"FLWR_HOME": "/home/a/.flwr"}) == [], "the default, written out"


def test_the_own_one_is_found_again():
    made = chosen(link(HF_HOME="/cache"), link("50000"))
    assert (made.port, made.note) == ("50000", "")
    gone = chosen(link(HF_HOME="/cache"), link("50001"), answering={"39091"})
    assert gone.port == "50000", "one that does not answer is of no use"


def test_another_installation_and_another_user():
    assert "another installation" in chosen(link(program="/other/bin/flower-superlink")).note
    theirs = Superlink(1, "39091", PROGRAM, None)
    assert "another user" in chosen(theirs).note
    assert "not known whose" in chosen(answering={"39091"}).note


def test_where_processes_cannot_be_looked_at_that_is_said():
    made = chosen(answering={"39091"}, known=False)
    assert made.port == "39091"
    assert "cannot be inspected" in made.note


def test_processes_are_read_from_proc(tmp_path):
    words = {
        "7": ["/venv/bin/python", PROGRAM, "--simulation", "--port", "39091"],
        "8": ["/venv/bin/python", PROGRAM, "--port", "39091"],  # of a deployment
        "9": ["grep", "flower-superlink"],
    }
    for pid, line in words.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes("\0".join(line).encode())
        (tmp_path / pid / "environ").write_bytes(b"HF_HOME=/a=b\0")
    assert running_superlinks(tmp_path) is None, "no /proc of a kernel"
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "environ").write_bytes(b"")
    assert running_superlinks(tmp_path) == [Superlink(7, "39091", PROGRAM, {"HF_HOME": "/a=b"})]


def test_flower_gives_it_time_to_start(monkeypatch):
    """Within Flower's 15 s it does not start on a busy machine, and a run is not submitted."""
    local = import_module("flwr.cli.local_superlink")
    monkeypatch.setattr(flwr_superlink, "running_superlinks", list)
    monkeypatch.setattr(flwr_superlink, "answers", lambda port: False)
    with right_superlink(print):
        assert local.LOCAL_SUPERLINK_STARTUP_TIMEOUT == PATIENCE
    assert local.LOCAL_SUPERLINK_STARTUP_TIMEOUT < PATIENCE
