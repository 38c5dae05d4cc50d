"""The wire format: what `to_record` makes comes back, anything else is refused with a ValueError and no other error."""

import gc
import weakref
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from remind.federation.flower import from_record, read_as, to_record
from remind.federation.messages import Enrol, Examine, Refusal

ENROL = Enrol(version="1")
JSON = ENROL.model_dump_json()
FLAT = ArrayRecord({"bytes": Array(np.arange(5, dtype=np.uint8))})


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_round_trip(size):
    buffer = np.arange(size).astype(np.uint8)
    message, received = from_record(to_record(ENROL, buffer))
    assert message == ENROL
    assert received.dtype == np.uint8
    np.testing.assert_array_equal(received, buffer)
    assert from_record(to_record(ENROL))[1].size == 0


def test_a_record_that_was_read_is_freed_at_once():
    """Without a garbage collection: a server has the answers of a whole round in memory otherwise (flower §14)."""
    sent = to_record(ENROL, np.arange(5, dtype=np.uint8))
    arrays = weakref.ref(sent["buffer"])
    gc.disable()
    try:
        from_record(sent)
        del sent
        assert arrays() is None
    finally:
        gc.enable()


def array(data: bytes, stype: str = "numpy.ndarray") -> RecordDict:
    foreign = Array(dtype="uint8", shape=(5,), stype=stype, data=data)
    return record(ConfigRecord({"json": JSON}), ArrayRecord({"bytes": foreign}))


def record(message, buffer=None, **others) -> RecordDict:
    made = RecordDict({"message": message} if message is not None else {})
    if buffer is not None:
        made["buffer"] = buffer
    for name, value in others.items():
        made[name] = value
    return made


def npy(value) -> bytes:
    file = BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


GOOD = npy(np.arange(5, dtype=np.uint8))
FOREIGN = {
    "empty": RecordDict(),
    "no message": record(None, FLAT),
    "another record": record(ConfigRecord({"json": JSON}), FLAT, more=MetricRecord({"loss": 1.0})),
    "another text": record(ConfigRecord({"json": JSON, "patients": "p1"})),
    "message of metrics": record(MetricRecord({"json": 1})),
    "message of arrays": record(FLAT),
    "buffer of config": record(ConfigRecord({"json": JSON}), ConfigRecord({"bytes": b"12345"})),
    "buffer of metrics": record(ConfigRecord({"json": JSON}), MetricRecord({"bytes": [1, 2]})),
    "two arrays": record(
        ConfigRecord({"json": JSON}), ArrayRecord({"bytes": Array(np.ones(1)), "x": Array(np.ones(1))})
    ),
    "no array": record(ConfigRecord({"json": JSON}), ArrayRecord({})),
    "floats": record(ConfigRecord({"json": JSON}), ArrayRecord({"bytes": Array(np.ones(3))})),
    "two dimensions": record(ConfigRecord({"json": JSON}), ArrayRecord({"bytes": Array(np.ones((2, 2), np.uint8))})),
    "no bytes": array(b""),
    "garbage": array(b"\x93NUMPY garbage"),
    "short": array(GOOD[:-2]),
    "pickle": array(npy(np.array([{"a": 1}], dtype=object))),
    "torch": array(GOOD, stype="torch"),
    "number": record(ConfigRecord({"json": 5})),
    "bytes": record(ConfigRecord({"json": b"\xff\xfe"})),
    "not json": record(ConfigRecord({"json": "{"})),
    "not an object": record(ConfigRecord({"json": "[1]"})),
    "deep": record(ConfigRecord({"json": '{"kind":' + "[" * 100_000})),
    "no kind": record(ConfigRecord({"json": "{}"})),
    "unknown kind": record(ConfigRecord({"json": '{"kind": "gift"}'})),
    "nan": record(ConfigRecord({"json": '{"kind": "examine", "round": NaN, "routing": true, "index": []}'})),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_records_are_refused(case):
    with pytest.raises(ValueError, match=r"."):
        from_record(FOREIGN[case])


@given(data=st.binary(max_size=200), keep=st.integers(0, len(GOOD)))
def test_no_bytes_raise_anything_but_a_value_error(data, keep):
    with suppress(ValueError):
        from_record(array(GOOD[:keep] + data))


def test_the_refusal_shows_no_value():
    secret = '{"kind": "enrol", "version": 5, "patient": "Anna"}'
    with pytest.raises(ValueError, match="version") as caught:
        from_record(record(ConfigRecord({"json": secret})))
    assert "Anna" not in str(caught.value)


def test_one_kind():
    assert read_as(to_record(ENROL), Enrol)[0] == ENROL
    with pytest.raises(ValueError, match="expected Examine, got Enrol"):
        read_as(to_record(ENROL), Examine)
    with pytest.raises(ValueError, match="refused: we do not take part"):
        read_as(to_record(Refusal(reason="we do not take part")), Enrol)
    assert read_as(to_record(Refusal(reason="no")), Refusal)[0].reason == "no"
