"""Rows and summaries against the statistics behind them."""

from dataclasses import replace

import numpy as np
import pytest

from remind.metrics.statistics import collect, merge, total
from remind_server.outputs.progress import Progress
from remind_server.outputs.tables import ALL, expert_rows, final_rows, round_rows, summary
from tests.builders.reports import SCHEMA, TEST, follow, record, result, statistics


def test_final_rows_have_every_site_and_group_and_the_margins():
    rows = {(r["site"], r["group"]): r for r in final_rows(result())}
    merged = merge(TEST.values())
    assert set(rows) == {
        *((ALL, g) for g in (ALL, "a", "a+b", "b+c", "a+b+c")),
        *(("x", g) for g in (ALL, "a", "a+b")),
        *(("y", g) for g in (ALL, "a", "b+c")),
        *(("z", g) for g in (ALL, "a+b")),
    }
    assert rows[ALL, "a"]["n"] == TEST["x"][1].count + TEST["y"][1].count
    assert rows[ALL, ALL]["n"] == 120
    assert rows["x", ALL]["loss"] == pytest.approx(total(TEST["x"]).loss)
    assert rows[ALL, "a+b"]["accuracy"] == pytest.approx(np.trace(merged[3].confusion_CC) / merged[3].count)
    assert rows[ALL, "a+b+c"]["n"] == 0, "a group in training without test patients"
    assert rows[ALL, "a+b+c"]["accuracy"] is None
    assert rows[ALL, "b+c"]["lambda"] is None, "a group that nobody trains on"
    assert [rows[ALL, g]["lambda"] for g in ("a", "a+b", "a+b+c")] == [0.2, 0.3, 0.5]
    assert [rows[ALL, g]["tail"] for g in ("a", "a+b", "a+b+c", "b+c")] == [False, True, True, True]
    assert {g: rows[ALL, g]["ranked"] for g in ("a", "a+b", "a+b+c", "b+c")} == {
        g: rows[ALL, g]["n"] >= 30 for g in ("a", "a+b", "a+b+c", "b+c")
    }


def test_summary_averages_what_the_rows_say():
    rows, found = final_rows(result()), summary(result())
    sites = [r for r in rows if r["group"] == ALL and r["site"] != ALL]
    groups_ = [r for r in rows if r["site"] == ALL and r["group"] != ALL and r["ranked"]]
    assert [r["group"] for r in groups_] == ["a", "a+b"], "b+c has too few patients"
    for key in ("accuracy", "macro_f1", "log_loss", "loss"):
        assert found["mean_over_sites"][key] == pytest.approx(np.mean([r[key] for r in sites]))
        assert found["mean_over_groups"][key] == pytest.approx(np.mean([r[key] for r in groups_]))
        assert found["mean_over_tail_groups"][key] == pytest.approx(next(r[key] for r in groups_ if r["mask"] == 3))
        assert found["overall"][key] == next(r[key] for r in rows if (r["site"], r["group"]) == (ALL, ALL))
    worst = max(groups_, key=lambda r: r["log_loss"])
    assert found["worst_group"]["log_loss"] == {"group": worst["group"], "value": worst["log_loss"], "if_equal": None}
    by_chance = found["worst_group"]["accuracy"]
    assert by_chance["value"] <= found["overall"]["accuracy"]
    assert 0 < by_chance["if_equal"] <= np.mean([r["accuracy"] for r in groups_]) + 0.05
    assert (found["groups"], found["tail_groups"], found["tail_groups_tested"], found["sites"]) == (3, 3, 2, 3)
    means = found["mean_over_tail_groups"]
    assert (means["averaged"]["auroc"], means["of"]) == (1, 3), "one of three tail groups can be ranked"


def test_the_terminal_says_of_how_many_groups_a_mean_is():
    said = []
    follow(Progress(said.append))
    text = "\n".join(said)
    assert "mean over 1 of 3 tail groups: AUROC" in text
    assert "b+c*°" in text
    assert "log-loss" in text
    assert "own loss" in text


def test_an_auroc_that_its_bins_leave_open_is_not_shown_bare():
    alike = collect(
        np.ones(60, dtype=np.int64), np.arange(60) % 2, np.ones(60), np.log(np.full((60, 2), 0.5)), np.zeros(60)
    )
    said = []
    follow(Progress(said.append), test={"x": alike})
    assert "0.500±0.500" in "\n".join(said)


def test_round_rows():
    rows = round_rows(record(), SCHEMA)
    assert [(r["group"], r["train_n"], r["lambda"], r["lambda_next"], r["risk"]) for r in rows] == [
        ("a", 90, 0.2, 0.1, 0.4),
        ("a+b", 10, 0.3, 0.3, 0.5),
        ("a+b+c", 2, 0.5, 0.6, None),
    ]
    measured = statistics(3, [1, 3])[1]
    assert rows[0]["gate_open"] == measured.open_sum / measured.count
    assert rows[2]["gate_open"] is None
    assert rows[0]["experts"] == pytest.approx((measured.use_sum_E / measured.count).tolist(), abs=1e-5)
    assert rows[2]["experts"] is None
    assert rows[2]["validation"]["n"] == 0


def test_expert_rows():
    rows = {r["group"]: r for r in expert_rows(result())}
    merged = merge(TEST.values())
    assert list(rows) == [ALL, "a", "a+b", "b+c"], "no row of a group without patients"
    assert rows["a"]["n"] == merged[1].count
    for e in range(3):
        assert rows["a"][f"expert_{e + 1}"] == pytest.approx(merged[1].use_sum_E[e] / merged[1].count, abs=1e-5)
    everybody = np.sum([merged[k].use_sum_E for k in merged], axis=0) / 120
    assert [rows[ALL][f"expert_{e}"] for e in (1, 2, 3)] == pytest.approx(everybody.tolist(), abs=1e-5)


def test_no_expert_rows_without_experts():
    bare = {site: {k: replace(s, use_sum_E=np.zeros(0)) for k, s in found.items()} for site, found in TEST.items()}
    assert expert_rows(result(bare)) == expert_rows(result({})) == []
    assert {row["experts"] for row in round_rows(record(validation=bare["x"]), SCHEMA)} == {None}


def test_nobody_to_test():
    assert summary(result(test={}))["overall"]["n"] == 0
    assert [r["n"] for r in final_rows(result(test={"x": {}}))] == [0] * 5
