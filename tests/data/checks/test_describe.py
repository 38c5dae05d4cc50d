"""`remind data describe`: no small count follows from the output, and the pictures agree with the tables."""

import re
from collections import Counter
from dataclasses import replace
from itertools import product
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from remind import groups
from remind.cli import app
from remind.config import SyntheticConfig
from remind.data.checks.describe import describe, describe_cohort
from remind.data.checks.describe_plots import MOST_GROUPS, draw, draw_groups, draw_sites
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from remind.privacy.published_counts import WITHHELD
from tests.attacker import Attacker


def in_sites(cohort, number, seed=0):
    rng = np.random.default_rng(seed)
    names = np.array([f"hospital {i:02d}" for i in range(number)])
    return replace(cohort, site_N=names[rng.choice(number, len(cohort), p=rng.dirichlet(np.ones(number)))])


def some(n_sites=4, patients=600, missing="0.2, 0.4, 0.6, 0.8"):
    cohort = generate(SyntheticConfig(patients=patients, law="independent", missing=missing), 0)
    return in_sites(cohort, n_sites) if n_sites else cohort


def counts_of(description):
    d = description
    return [d.count_G, d.count_S, d.count_C, d.count_GS, d.count_GC]


@pytest.mark.parametrize("n_sites", [0, 1, 4, 20])
def test_without_a_minimum_all_is_told(n_sites):
    cohort = some(n_sites)
    description = describe(cohort, 1)
    assert all((count >= 0).all() for count in counts_of(description))
    for name, n, n_C, n_S in zip(
        description.names, description.count_G, description.count_GC, description.count_GS, strict=True
    ):
        own_N = cohort.groups_N == groups.parse(name, cohort.schema.names)
        assert n == own_N.sum()
        assert n_C.tolist() == [(cohort.label_N[own_N] == c).sum() for c in range(2)]
        assert n_S.tolist() == [(cohort.site_N[own_N] == site).sum() for site in description.sites]
    assert description.count_G.tolist() == sorted(description.count_G, reverse=True)
    assert description.count_C.tolist() == np.bincount(cohort.label_N).tolist()
    share_of = groups.shares(groups.counts(cohort.groups_N))
    tail = {groups.name(g, cohort.schema.names) for g in groups.tail(groups.counts(cohort.groups_N))}
    assert {name for name, in_tail in zip(description.names, description.tail_G, strict=True) if in_tail} == tail
    assert len(share_of) == len(description.names)


@pytest.mark.parametrize("n_sites", [0, 1, 4, 20])
@pytest.mark.parametrize("minimum", [6, 10, 50])
def test_with_a_minimum_nothing_smaller_is_told(n_sites, minimum):
    cohort = some(n_sites)
    description, whole = describe(cohort, minimum), describe(cohort, 1)
    for count in counts_of(description):
        assert not ((count > 0) & (count < minimum)).any()
    assert (description.count_G == WITHHELD).any()
    full = dict(zip(whole.names, whole.count_G, strict=True))
    for name, n in zip(description.names, description.count_G, strict=True):
        assert n in (WITHHELD, full[name])
    withheld = [name for name, n in zip(description.names, description.count_G, strict=True) if n == WITHHELD]
    assert len(withheld) > 1
    assert sum(full[name] for name in withheld) >= minimum
    text = description.to_text()
    assert f"* withheld: below {minimum}" in text
    assert (description.count_GC[description.count_G == WITHHELD] == WITHHELD).all()


def attacker_on(cohort, description, text):
    """Somebody who has the tables as they are printed."""
    whole = describe(cohort, 1)
    number = {name: g for g, name in enumerate(whole.names)}
    classes, sites = cohort.schema.classes, list(whole.sites)
    name_N = [groups.name(int(mask), cohort.schema.names) or "nothing" for mask in cohort.groups_N]
    cells = Counter(zip(name_N, cohort.site_N.tolist(), cohort.label_N.tolist(), strict=True))
    attacker = Attacker({cell: cells[cell] for cell in product(number, sites, range(len(classes)))})
    every = list(attacker.place)

    def hears(word, chosen):
        if word != "*":
            attacker.hears([cell for cell in every if chosen(*cell)], 0 if word == "·" else int(word))

    first, second = text.split("\n\n")[1:3]
    names = []
    for line in first.splitlines()[1:-1]:
        name, n, *rest = line.split()[1:]
        names.append(name)
        hears(n, lambda g, s, c, name=name: g == name)
        for k, word in enumerate(rest[-len(classes) :]):
            hears(word, lambda g, s, c, name=name, k=k: (g, c) == (name, k))
    everyone, *by_class = first.splitlines()[-1].split()[1:]
    hears(everyone, lambda g, s, c: True)
    for k, word in enumerate(by_class):
        hears(word, lambda g, s, c, k=k: c == k)
    rows = [re.findall(r"\S+", line) for line in second.splitlines()[1:]]
    for row in rows:
        for site, word in zip(sites, row[1:], strict=True):
            group = None if row[0] == "all" else names[int(row[0]) - 1]
            hears(word, lambda g, s, c, site=site, group=group: s == site and group in (None, g))
    sets = [[c for c in every if c[0] == name] for name in number]
    sets += [[c for c in every if c[1] == site] for site in sites]
    sets += [[c for c in every if c[2] == k] for k in range(len(classes))]
    sets += [[c for c in every if c[:2] == pair] for pair in product(number, sites)]
    sets += [[c for c in every if c[::2] == pair] for pair in product(number, range(len(classes)))]
    return attacker, sets


@pytest.mark.parametrize(("seed", "minimum"), [(0, 3), (1, 10), (2, 25), (3, 10)])
def test_nothing_small_follows_from_what_is_printed(seed, minimum):
    cohort = some(0, patients=400, missing="0.3, 0.5, 0.6").take(np.random.default_rng(seed).permutation(400)[:250])
    cohort = in_sites(cohort, 4, seed)
    description = describe(cohort, minimum)
    attacker, sets = attacker_on(cohort, description, description.to_text())
    assert not attacker.finds_below(minimum, sets)
    assert (description.count_GS == WITHHELD).any()
    assert (description.count_G > 0).sum() > 2


def test_too_many_groups_for_a_minimum_are_refused(monkeypatch):
    monkeypatch.setattr("remind.privacy.published_counts.MOST_CELLS", 20)
    with pytest.raises(UserError, match="larger --min-count than 5"):
        describe(some(), 5)
    assert describe(some(), 200).patients == 600


def test_persons_decide_where_rows_are_visits():
    cohort = some(0, patients=400, missing="0.5, 0.5")
    rare_N = cohort.groups_N == 3
    person_N = np.where(rare_N, "one person", cohort.person_N)
    assert rare_N.sum() > 50
    description = describe(replace(cohort, person_N=person_N), 10)
    assert description.count_G[description.names.index("M1+M2")] == WITHHELD
    assert description.patients == 400
    assert WITHHELD not in describe(cohort, 10).count_G


def test_a_cohort_below_the_minimum_is_refused():
    with pytest.raises(UserError, match="9 patients, fewer than --min-count 10"):
        describe(some(patients=9), 10)


def bars_of(axes):
    return {round(bar.get_x() + bar.get_width() / 2): bar for container in axes.containers for bar in container}


@pytest.mark.parametrize("cohort", [some(), some(missing="0, 0"), some(missing="0.1, 0.99, 0.97", patients=4000)])
def test_bars_are_the_shares(cohort):
    description = describe(cohort, 10)
    bars, dots = draw_groups(description, "title").axes
    found = bars_of(bars)
    assert len(found) == len(description.count_G)
    for g, n in enumerate(description.count_G):
        top = found[g].get_y() + found[g].get_height()
        if n == WITHHELD:
            assert found[g].get_hatch()
            assert top < description.count_G[description.count_G > 0].min() / description.patients
        else:
            assert top == pytest.approx(n / description.patients)
    known = description.count_G[description.count_G > 0]
    assert bars.get_yscale() == ("log" if known.max() / known.min() > 30 else "linear")
    assert {text.get_text() for text in bars.texts} == {f"{n:,}".replace(",", " ") for n in known}
    assert [label.get_text() for label in dots.get_yticklabels()] == list(description.modalities)
    dark = np.asarray(dots.collections[-1].get_offsets(), dtype=int).tolist()
    assert {(g, m) for g, m in dark} == set(zip(*np.nonzero(description.member_Gm), strict=True))


def test_cells_are_the_counts():
    description = describe(some(), 10)
    heat, _ = draw_sites(description, "title").axes
    told = {(round(t.get_position()[1]), round(t.get_position()[0])): int(t.get_text()) for t in heat.texts}
    count_SG = description.count_GS.T
    assert told == {(s, g): n for (s, g), n in np.ndenumerate(count_SG) if n > 0}
    assert len(heat.patches) == (count_SG == WITHHELD).sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_sites", "missing"),
    [(0, "0"), (1, "0"), (3, "0.4, 0.5, 0.6, 0.5, 0.6, 0.5"), (15, "0.5, 0.5, 0.5, 0.5, 0.5, 0.5")],
)
@pytest.mark.filterwarnings("error")
def test_pictures_of_every_size(n_sites, missing, tmp_path):
    description = describe(some(n_sites, patients=900, missing=missing), 2)
    paths = draw(description, tmp_path / "new" / "folder")
    assert len(paths) == (4 if n_sites else 2)
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                grey = np.asarray(picture.convert("L"))
            assert min(grey.shape) > 100
            assert grey.std() > 5
        else:
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
    again = draw(description, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    assert not [path for path in (tmp_path / "new" / "folder").iterdir() if path not in paths]


def test_names_are_no_formulas_and_no_paths(tmp_path):
    cohort = some(2)
    cohort = replace(cohort, schema=cohort.schema.model_copy(update={"name": "../a $x_ b$"}))
    cohort = replace(cohort, site_N=np.where(cohort.site_N == "hospital 00", "St. $\\broken$", "b"))
    paths = draw(describe(cohort, 10), tmp_path)
    assert {path.parent for path in paths} == {tmp_path}


@pytest.mark.filterwarnings("error")
def test_more_groups_than_a_picture_holds():
    cohort = some(2, patients=1500, missing=", ".join(["0.5"] * 10))
    description = describe(cohort, 1)
    assert len(description.count_G) > MOST_GROUPS
    from remind.data.checks import describe_plots

    title, cut = describe_plots._title(description), describe_plots._cut(description)
    assert f"(the first {MOST_GROUPS} drawn)" in title
    assert len(bars_of(draw_groups(cut, title).axes[0])) == MOST_GROUPS


def test_command(tmp_path):
    write_cohort(some(), tmp_path / "c")
    run = CliRunner().invoke
    found = run(app, ["data", "describe", str(tmp_path / "c"), "--out", str(tmp_path / "out"), "--min-count", "5"])
    assert found.exit_code == 0
    assert describe_cohort(tmp_path / "c", min_count=5).to_text() in found.stdout
    names = {f"synthetic-independent-{what}.{kind}" for what in ("groups", "sites") for kind in ("png", "svg")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert all(str(tmp_path / "out" / name) in found.stdout.replace("\n", "") for name in names)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out"):
        draw(describe(some(), 10), tmp_path / "file")
