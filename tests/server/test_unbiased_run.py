"""An unbiased round by real sites: the mean over all draws is the round of all, and what is said of it."""

import itertools
import json

import pytest
import torch

from remind.config import Config, Scalar
from remind.federation.participation import Draw, alike, by_share
from remind.objectives.lambda_step import update_weights
from remind_server.outputs.attendance import Attendance
from remind_server.outputs.gaps import NEVER_DRAWN, gaps_of, summary_warnings
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.roster import Roster
from remind_server.rounds.strategy import FedRemind
from remind_server.sinks.scalars import round_scalars
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"a": [1, 3] * 12, "b": [1, 2, 3] * 4, "c": [3, 6] * 4}
UNBIASED: dict[str, Scalar] = {
    "federation.participation": 0.6,
    "federation.estimate": "unbiased",
    "precision": "float64",
    "federation.dtype": "float64",
    "dro.max-log-odds-step": 50.0,
}


def run(folder, observers=(), **changes):
    config = Config.from_flat({**BASE, "train.warmup-rounds": 1, "train.routing-rounds": 0, **UNBIASED, **changes})
    sites = [site(n, cohort(mix, seed), config, folder) for seed, (n, mix) in enumerate(MIXES.items())]
    recorder = Recorder()
    FedRemind(config, [recorder, *observers]).run(SiteGrid(sites))
    return recorder


def test_the_mean_over_all_draws_is_the_round_of_all(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", **{"federation.participation": 1.0})
    models, weights = [], []
    for pair in itertools.combinations("abc", 2):
        draw = Draw(alike(list("abc"), 2), frozenset(pair), unbiased=True)
        monkeypatch.setattr(Roster, "draw", lambda *_, draw=draw: draw)
        found = run(tmp_path / "".join(pair))
        assert found.rounds[0].answered == pair
        models.append(found.models[0])
        weights.append(found.rounds[0].weights_after)
    for name, tensor in whole.models[0].items():
        torch.testing.assert_close(sum(m[name] for m in models) / 3, tensor, rtol=1e-10, atol=1e-12)
    of = whole.rounds[0]
    steps = [{k: torch.tensor(w[k] / w[1]).log() for k in w} for w in weights]
    for k in of.weights_after:
        expected = torch.tensor(of.weights_after[k] / of.weights_after[1]).log()
        assert sum(step[k] for step in steps) / 3 == pytest.approx(float(expected), abs=1e-5)
    exact = update_weights(of.weights_used, of.risks, float(BASE["dro.gamma"]) * int(BASE["train.local-steps"]))
    assert of.weights_after == pytest.approx(exact)


@pytest.mark.parametrize("draw", ["uniform", "share"])
def test_a_run_says_who_could_be_drawn_and_what_the_draw_did(draw, tmp_path):
    recorder = run(tmp_path / "s", [RunFolder(tmp_path / "out")], **{"federation.draw": draw, "train.warmup-rounds": 3})
    for record in recorder.rounds:
        assert len(record.answered) == 2
        assert set(record.chances) == set("abc")
        assert sum(record.chances.values()) == pytest.approx(2)
        assert 1 <= record.effective_sites <= 2
        scalars = round_scalars(record, recorder.start.schema)
        assert scalars["round/effective_sites"] == record.effective_sites
    lines = [json.loads(line) for line in (tmp_path / "out" / "rounds.jsonl").open()]
    assert [line["sampling_error"] for line in lines] == [r.sampling_error for r in recorder.rounds]
    assert all(sum(line["chances"].values()) == pytest.approx(2, abs=1e-5) for line in lines)
    drawn = json.loads((tmp_path / "out" / "summary.json").read_text())["drawn"]
    assert drawn["rounds"] == 3
    assert drawn["effective_sites"] == pytest.approx(sum(r.effective_sites for r in recorder.rounds) / 3)
    assert drawn["never_drawn"] == sorted(set("abc") - {n for r in recorder.rounds for n in r.answered})
    if draw == "share":
        shares = {n: sum(recorder.rounds[0].weights_used[k] * v for k, v in own.items()) for n, own in parts(recorder)}
        assert recorder.rounds[0].chances == pytest.approx(by_share(shares, 2))
    else:
        assert all(r.sampling_error > 0 for r in recorder.rounds)


def test_a_site_that_was_never_drawn_makes_the_run_incomplete(tmp_path):
    """The record, the status, the exit code's warnings and the store's reason follow one list; a resumed run has it."""
    seen = Attendance()
    recorder = run(tmp_path / "s", [RunFolder(tmp_path / "out"), seen])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    (never,) = summary["drawn"]["never_drawn"]
    assert (summary["status"], summary["never_took_part"]) == ("incomplete", {})
    assert gaps_of(summary) == seen.gaps == [f"{never}: {NEVER_DRAWN}"]
    assert summary_warnings(summary) == seen.warnings == [f"site {never} never took part: {NEVER_DRAWN}"]
    again = Attendance()
    again.resumed(recorder.start, 1, json.loads(json.dumps(seen.remember())))
    assert again.content() == seen.content()


def parts(recorder):
    """Site → group → n_{s,k}/n_k."""
    counts = recorder.start.counts
    return [(name, {k: n / counts[k] for k, n in own.items()}) for name, own in recorder.start.sites.items()]


def test_where_all_take_part_nothing_is_said_of_a_draw(tmp_path):
    recorder = run(tmp_path / "s", [RunFolder(tmp_path / "out")], **{"federation.participation": 1.0})
    assert recorder.rounds[0].chances == {}
    assert recorder.rounds[0].sampling_error is None
    assert 1 < recorder.rounds[0].effective_sites <= 3
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["drawn"] is None
