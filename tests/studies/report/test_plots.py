"""Plots contain all means, distinguishable arms, and settings in order."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind_studies.report import figures
from remind_studies.report.group_plot import Dot, GroupRow, draw_groups
from remind_studies.report.style import inline, looks, wrapped
from remind_studies.report.sweeps import sweeps
from remind_studies.report.trace_plot import DRAWN
from remind_studies.report.view import views
from remind_studies.report.words import DASH, MINUS, count, number, p_value, quantity, signed
from tests.builders.study_reports import study

SITES = tuple((f"sites = {n}", f"{n} sites") for n in (10, 2, 50, 5))


def texts(svg: str) -> list[str]:
    """Words of a picture, without its title and description."""
    return ["".join(element.itertext()).strip() for element in ElementTree.fromstring(svg).iter("text")]


@pytest.mark.parametrize("number_of_arms", [2, 6, 12, 30])
def test_no_two_methods_look_alike(number_of_arms):
    arms = [f"arm {i}" for i in range(number_of_arms)]
    found = looks(arms, ["arm 1"], "arm 0")
    assert len({(look.colour, look.marker) for look in found.values()}) == number_of_arms
    first = [found[arm].marker for arm in arms[:8]]
    assert len(set(first)) == len(first)  # by shape alone: grey print


def test_forest_has_every_other_arm_with_its_difference():
    (view,) = views(study())
    picture = figures.forest(view)
    words = texts(picture.svg)
    for one in view.differences("mean_tail"):
        assert one.arm in words
        assert any(word.startswith(signed(one.difference)) for word in words)
    assert "remind" not in words


def test_forest_of_nothing_is_left_out():
    (view,) = views(study(gone=1.0))
    assert figures.forest(view) is None
    assert figures.group_plot(view) is None


def test_groups_are_cut_to_what_can_be_read():
    (view,) = views(study(modalities=tuple("abcdef"), groups=60, arms=(*(f"arm {i}" for i in range(9)), "remind")))
    picture = figures.group_plot(view)
    words = texts(picture.svg)
    assert len([word for word in words if " · " in word]) <= figures.MOST_GROUPS
    assert {"remind", "local remind", "pooled remind"} <= set(words)
    assert len([word for word in words if word.startswith("arm ")]) == figures.MOST_ARMS - 3
    assert "6 more in the table" in picture.caption


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.6), st.booleans()), min_size=1, max_size=6))
def test_axis_holds_all_means_and_intervals_of_ranked_groups(drawn):
    rows = [
        GroupRow(f"g{i}", ranked, {"remind": Dot(mean, mean - half, mean + half)})
        for i, (mean, half, ranked) in enumerate(drawn)
    ]
    figure = draw_groups(rows, looks(["remind"], [], "remind"), "AUROC", True)
    low, high = figure.axes[0].get_xlim()
    for mean, half, ranked in drawn:
        assert low < mean < high
        assert not ranked or (low < max(mean - half, 0) and min(mean + half, 1) < high)


def test_few_groups_are_told_apart_in_traces():
    (view,) = views(study(modalities=tuple("abcdef"), groups=35))
    picture = figures.trace_plot(view)
    assert len([word for word in texts(picture.svg) if " · " in word]) == DRAWN
    assert "Grey lines" in picture.caption
    (few,) = views(study(groups=4))
    assert "Grey lines" not in figures.trace_plot(few).caption


def test_traces_only_of_the_reference():
    (view,) = views(study(reference="fedavg"))
    assert figures.trace_plot(view).caption.startswith("fedavg")
    (without,) = views(study(traces=False))
    assert figures.trace_plot(without) is None


def test_panels_of_one_setting_are_a_line_in_the_order_of_its_values():
    results = study(panels=(*SITES, ("hide ecg", "80 % of ecg hidden")))
    found, arms = sweeps(views(results), results.measure)
    assert [(sweep.title, list(sweep.values), sweep.ordered) for sweep in found] == [
        ("sites", ["2", "5", "10", "50"], True),
        ("", ["hide ecg"], False),
    ]
    assert list(arms) == [arm.name for arm in results.panels[0].arms]
    at_two = next(panel for panel in results.panels if panel.name == "sites = 2")
    mean = next(s.mean for s in at_two.summaries if (s.arm, s.measure, s.metric) == ("remind", "mean_tail", "auroc"))
    assert found[0].dots["remind"][0].mean == mean


def test_modalities_that_end_in_numbers_are_no_line():
    found, _ = sweeps(views(study(panels=(("M1", "M1 hidden"), ("M2", "M2 hidden")))), "overall")
    assert [sweep.ordered for sweep in found] == [False]


def test_panels_of_different_arms_are_a_chart_each():
    panels = (("gamma", "step γ"), ("missing", "B_k"))
    arms = {"gamma": ("γ = 0.1", "γ = 0.02", "γ = 1"), "missing": ("B_k learned", "B_k zero")}
    found, _ = sweeps(views(study(panels=panels, arms_of=arms)), "overall")
    assert [list(sweep.values) for sweep in found] == [
        ["γ = 0.02", "γ = 0.1\n(reference)", "γ = 1"],
        ["B_k learned\n(reference)", "B_k zero"],
    ]
    assert [sweep.ordered for sweep in found] == [True, False]


def test_one_panel_or_none_with_scores_is_no_sweep():
    assert figures.sweep_plots(views(study())) == []
    assert figures.sweep_plots(views(study(panels=SITES, gone=1.0))) == []
    assert figures.sweep_plots([]) == []


def test_sweeps_are_drawn_of_the_tail_and_of_all_patients():
    """Each with its own means: what is drawn of the tail is not what is drawn of all."""
    results = study(panels=SITES)
    means = {
        measure: [
            next(s.mean for s in panel.summaries if (s.arm, s.measure, s.metric) == ("remind", measure, "auroc"))
            for panel in results.panels
        ]
        for measure in ("mean_tail", "overall")
    }
    assert means["mean_tail"] != means["overall"]
    pictures = figures.sweep_plots(views(results))
    assert [picture.caption.split(",")[1].strip() for picture in pictures] == ["mean of tail groups", "all patients"]
    for picture, measure in zip(pictures, means, strict=True):
        told = "".join(ElementTree.fromstring(picture.svg).find("desc").itertext())
        for panel, mean in zip(results.panels, means[measure], strict=True):
            place = f"sites {panel.name.removeprefix('sites = ')}: "
            assert f"remind {number(mean)}" in told.split(place)[1].split(";")[0]
    of_all = results.model_copy(update={"measure": "overall"})
    assert len(figures.sweep_plots(views(of_all))) == 1


def test_names_that_plots_would_trip_over():
    """An underscore hides a label from legends, a control character is not XML."""
    results = study(arms=("_a", "b\x0bc", "remind"), anchors=(), reference="remind", panels=SITES)
    pictures = [*figures.sweep_plots(views(results)), figures.group_plot(views(results)[0])]
    for picture in pictures:
        words = [word.strip("\u200b") for word in texts(picture.svg)]
        assert {"_a", "bc", "remind"} <= set(words)


def test_letters_that_our_font_lacks_stay_text():
    row = GroupRow("1 · 血液", True, {"remind": Dot(0.5, None, None)})
    svg = inline("x", "t", "w", draw_groups, [row], looks(["remind"], [], "remind"), "AUROC", True)
    assert "1 · 血液" in texts(svg)


@given(st.floats(-2, 2))
def test_numbers_are_rounded_and_never_minus_zero(value):
    for text in (number(value), signed(value)):
        assert abs(float(text.replace(MINUS, "-")) - value) <= 0.0005 + 1e-12
        assert text.strip("+" + MINUS) != "0.000" or MINUS not in text


def test_what_is_undefined_is_a_dash():
    assert {number(None), signed(None), count(None), quantity(None), p_value(None)} == {DASH}


@given(st.text(alphabet="ab+ ·_", max_size=80), st.integers(3, 30))
def test_a_name_is_broken_and_nothing_of_it_is_lost(name, most):
    found = wrapped(name, most)
    assert found.replace("\n", "").replace(" ", "") == name.replace(" ", "")
    assert all(len(line) <= most for line in found.split("\n"))


def test_combinations_that_differ_in_the_last_modality_alone_are_told_apart():
    long = "+".join(f"modality-{i}" for i in range(12))
    rows = [GroupRow(f"{i} · {long}{end}", True, {"remind": Dot(0.5, None, None)}) for i, end in enumerate("xy")]
    arms = [f"remind with {long}{end}" for end in "xy"]
    dots = [GroupRow(row.label, True, dict.fromkeys(arms, Dot(0.5, None, None))) for row in rows]
    svg = inline("x", "t", "w", draw_groups, dots, looks(arms, [], arms[0]), "AUROC", True)
    drawn = "".join(texts(svg)).replace(" ", "")
    for name in (*(row.label for row in rows), *arms):
        assert name.replace(" ", "") in drawn
    assert "…" not in drawn
