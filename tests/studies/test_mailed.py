"""A published report discloses no small count: rows are left out until none follows from the rest."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from remind_studies.report.write import render
from remind_studies.results import Results
from remind_studies.results.mailed import mailed, shown
from tests.attacker import Attacker
from tests.builders.study_results import study

COUNT = st.sampled_from([0, 1, 2, 9, 10, 12, 40, 300])


@settings(max_examples=30)
@given(st.lists(st.tuples(COUNT, COUNT, COUNT), min_size=1, max_size=7))
def test_no_small_row_follows_from_the_others_and_the_totals(rows):
    sizes: dict[Any, dict[str, int]] = {
        i: dict(zip(("train", "positives", "others"), row, strict=True)) for i, row in enumerate(rows)
    }
    told = shown(sizes, 10)
    attacker = Attacker({(i, kind): n for i, own in sizes.items() for kind, n in own.items()})
    for kind in ("train", "positives", "others"):
        every = [(i, kind) for i in sizes]
        if (total := sum(own[kind] for own in sizes.values())) >= 10:
            attacker.hears(every, total)
        for i in told:
            attacker.hears([(i, kind)], sizes[i][kind])
    assert not attacker.finds_below(10, [[key] for key in attacker.place])
    if all(n == 0 or n >= 10 for row in rows for n in row):
        assert told == set(sizes)


def test_a_report_leaves_out_groups_hospitals_and_all_that_names_them(runs):
    results = study(runs)
    (whole,) = results.panels
    least = int(sorted(group.test_n * min(g := group.positives / group.tested, 1 - g) for group in whole.groups)[1]) + 1
    content = mailed(results, least)
    (panel,) = content.panels
    masks = {group.mask for group in panel.groups}
    assert 0 < len(masks) < len(whole.groups)
    assert panel.withheld_groups == len(whole.groups) - len(masks) >= 1
    for group in panel.groups:
        share = group.positives / group.tested
        assert min(group.train_n, group.test_n * share, group.test_n * (1 - share)) >= least
    assert {one.mask for one in panel.by_group} <= masks
    assert {one.site for one in panel.by_site} <= {site.name for site in panel.sites}
    assert {mask for trace in panel.traces for one in trace.rounds for mask in one.weights} <= masks
    assert Results.from_json(content.to_json(), "results.json") == content
    page = render(content)
    assert f"fewer than {least} patients" in page
    assert mailed(results, 1) is results


def test_every_seed_tests_enough_patients_of_every_class(runs):
    results = study(runs)
    (whole,) = results.panels
    least = sorted(group.fewest for group in whole.groups if group.fewest)[-1]
    (panel,) = mailed(results, least).panels
    assert all(group.fewest >= least for group in panel.groups)
    few = whole.groups[0].model_copy(update={"fewest": 1})
    (panel,) = mailed(
        results.model_copy(update={"panels": (whole.model_copy(update={"groups": (few, *whole.groups[1:])}),)}), 2
    ).panels
    assert few.mask not in {group.mask for group in panel.groups}


def test_no_mean_counts_one_hidden_row_alone(runs):
    results = study(runs)
    (whole,) = results.panels
    first, *rest = (one.model_copy(update={"ranked": True, "tail": True, "fewest": 50}) for one in whole.groups)
    groups = (first.model_copy(update={"fewest": 1}), *rest)
    content = mailed(results.model_copy(update={"panels": (whole.model_copy(update={"groups": groups}),)}), 2)
    (panel,) = content.panels
    hidden = {one.mask for one in groups} - {one.mask for one in panel.groups}
    assert first.mask in hidden
    assert len(hidden) >= 2
