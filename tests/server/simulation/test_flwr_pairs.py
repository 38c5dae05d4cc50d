import tomllib

import pytest
from flwr.common.config import parse_config_args
from hypothesis import given
from hypothesis import strategies as st

from remind.errors import UserError
from remind_server.simulation.flwr_pairs import read_pairs, write_pairs

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALAR = st.one_of(st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), TEXT)
KEY = st.from_regex(r"[a-z]{1,5}-?[a-z]{1,5}", fullmatch=True)


@given(st.dictionaries(KEY.map("t.{}".format), SCALAR, min_size=1))
def test_flower_reads_back_what_we_write(values):
    assert parse_config_args(write_pairs(values)) == values


@given(st.dictionaries(KEY, SCALAR, min_size=1))
def test_we_read_back_what_we_write(values):
    assert read_pairs(write_pairs(values), "-c") == values


def test_a_table_given_twice_keeps_both_values():
    assert read_pairs(["train.lr=0.1", "train.batch=2 seed=3"], "-c") == {
        "train.lr": 0.1,
        "train.batch": 2,
        "seed": 3,
    }


def test_underscores_are_hyphens():
    assert read_pairs(["train.local_steps=2"], "-c") == {"train.local-steps": 2}


def test_a_toml_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('seed = 1\n[data]\ncohort = "a b"\n')
    assert read_pairs([str(path)], "-c") == {"seed": 1, "data.cohort": "a b"}
    assert tomllib.loads(write_pairs({"data.cohort": 'a "b"'})[0])["data"]["cohort"] == 'a "b"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "not key=value: 'seed'"),
        ("seed=1 lr", "not key=value: 'lr'"),
        ("train.lr=0,001", "write a decimal point: train.lr=0.001"),
        ("data.cohort=here", "a text needs quotes: -c 'data.cohort=\"here\"'"),
        ("rounds=1979-05-27", "a number, a text or true/false"),
        ("nowhere.toml", "cannot read nowhere.toml: No such file"),
    ],
)
def test_what_cannot_be_read_is_named(text, message):
    with pytest.raises(UserError) as error:
        read_pairs([text], "-c")
    assert message in str(error.value)
