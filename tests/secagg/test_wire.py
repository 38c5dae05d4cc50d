"""What lies on the wire is uniform, of one question, and nothing else."""

import json

import numpy as np

from remind.secagg.codec import STATISTICS, TENSORS, Payload
from remind.secagg.pairs import commitment
from remind.secagg.site import SecureSite
from remind.secagg.slot_messages import MaskedHeader
from tests.builders.secagg_parties import SHARED, Consortium, same, some_values


def test_masked_words_are_uniform_whatever_the_numbers_are():
    """Chi-square of the bytes, and of the difference between masked zeros and masked large numbers."""
    width = 20_000
    for tensors, statistics in ((np.zeros(width), np.zeros(50)), (np.full(width, 5.0), np.full(50, 1e6))):
        three = Consortium(3, slots=1)
        plan = three.plan("site-00", {SHARED: three.names})
        _, masked = three.sites["site-00"].mask(plan, {SHARED: Payload.of(tensors, statistics, 3)})
        counts = np.bincount(masked[SHARED].to_bytes(), minlength=256)
        expected = counts.sum() / 256
        assert np.sum((counts - expected) ** 2 / expected) < 350  # 255 degrees of freedom: mean 255, sd 22.6


def test_the_same_question_gives_the_same_masked_words_and_another_site_none_of_them(five):
    values = some_values(five.names, {SHARED: five.names})
    payload = {SHARED: Payload.of(*values["site-00"][SHARED], 5)}
    plan = five.plan("site-00", {SHARED: five.names})
    _, first = five.sites["site-00"].mask(plan, payload)
    _, again = SecureSite(five.sites["site-00"].state).mask(plan, payload)
    assert same(first[SHARED], again[SHARED])
    other = five.plan("site-00", {SHARED: five.names}, question="another")
    _, differently = SecureSite(five.sites["site-00"].state.model_copy(update={"asked": {}})).mask(other, payload)
    assert not np.any(first[SHARED].tensors == differently[SHARED].tensors)


def test_a_state_that_was_kept_goes_on_as_before(five):
    text = five.sites["site-00"].state.model_dump_json()
    back = type(five.sites["site-00"].state).model_validate_json(text)
    assert back == five.sites["site-00"].state
    assert json.loads(text)["root"] not in json.dumps(five.deals)


def test_what_is_promised_is_kept_before_it_is_answered(five):
    kept = []
    site = SecureSite(five.sites["site-00"].state, kept.append)
    site.mask(five.plan("site-00", {SHARED: five.names}), {SHARED: Payload.zeros((1, 1))})
    assert kept[-1].asked == {0: "question to site-00"}


def test_a_commitment_is_of_one_block():
    assert commitment(b"s" * 16, "a") != commitment(b"s" * 16, "b")


def test_beside_a_masked_block_lie_lengths_commitments_and_boxes_alone():
    assert set(MaskedHeader.model_fields) == {"slot", "lengths", "commitments", "boxes"}
    assert TENSORS.step < 1e-7
    assert STATISTICS.step < 1e-9
