"""A reader who saves every view after every round, and the cohort's files, can derive no small count."""

import csv
import io
import json
import re
import zipfile
from html.parser import HTMLParser

import pytest

from tests.attacker import Attacker
from tests.builders.stored_runs import Drill, statistics

ALL = "all"
MINIMUM = 10
SITES = {
    "Basel": {1: 60, 3: 30, 5: 14, 7: 3},
    "Chur": {1: 45, 3: 4, 5: 31},
    "Davos": {1: 50, 5: 3, 7: 2},
    "Elm": {1: 33, 3: 12},
}
SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "loss", "gate_open")


class Cells(HTMLParser):
    """Rows of the tables of a page, by the tables' class; a cell is its text."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.table, self.cell = {}, None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.table = self.tables.setdefault(dict(attrs).get("class"), [])
        elif tag == "tr" and self.table is not None:
            self.table.append([])
        elif tag in ("td", "th") and self.table:
            self.table[-1].append("")
            self.cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.cell = None

    def handle_data(self, data):
        if self.cell and self.table and self.table[-1]:
            self.table[-1][-1] += data


class Reader:
    """Writes everything down that a person without access to the store is shown."""

    def __init__(self, drill, client):
        self.drill, self.client = drill, client
        self.name_of = {k: "+".join(drill.schema.names[i] for i in range(3) if k >> i & 1) for k in drill.counts}
        truth = {}
        for part, factor, salt in (("validation", 1, 100), ("test", 2, 7)):
            for i, (site, found) in enumerate(drill.patients.items()):
                for k, n in found.items():
                    one = statistics(factor * n, 0, who=salt * i + k, share=drill.share)
                    truth |= {(part, site, self.name_of[k], c): int(x) for c, x in enumerate(one.confusion_CC.sum(1))}
        truth |= {("train", site, self.name_of[k], 0): n for site, f in drill.sites.items() for k, n in f.items()}
        self.attacker = Attacker(truth)
        self.present, self.heard_sums, self.small = {}, 0, {}

    def atoms(self, part, site=ALL, group=ALL, c=None, sites=None):
        return [
            a
            for a in self.attacker.place
            if a[0] == part and site in (ALL, a[1]) and group in (ALL, a[2]) and c in (None, a[3])
            if sites is None or a[1] in sites
        ]

    def hears(self, part, site, group, n, scored, sites=None):
        """A number; scores tell the classes."""
        if n not in (None, "", "withheld", "–", "·") and (int(n) or self.atoms(part, site, group, None, sites)):
            self.attacker.hears(self.atoms(part, site, group, None, sites), int(n))
        if scored:
            for c in (0, 1):
                own = self.atoms(part, site, group, c, sites)
                self.attacker.hears(own, sum(self.attacker.count_A[self.attacker.place[a]] for a in own))

    def looks(self, answered_in):
        """All views as they are now; `answered_in`: the sites of each round, that of the last one at the end."""
        get = self.client.get
        last = answered_in[-1]
        part = get("/api/runs/1").json()["patients"]
        for on in {"validation", part}:
            sites = last if on == "validation" else None
            groups = get("/api/runs/1/groups", params={"on": on}).json()["rows"]
            for row in groups:
                self.hears("train", ALL, row["name"], row["train_n"], False)
                scores = row["scores"]
                scored = any(scores[name] is not None for name in (*SCORES, "positives"))
                self.hears(on, ALL, row["name"], scores["n"], scored, sites)
            self.sums(get("/api/runs/1/groups", params={"on": on}).json(), on, sites)
            for row in csv.DictReader(io.StringIO(get("/runs/1/matrix.csv", params={"on": on}).text)):
                scored = any(row[name] not in ("", "withheld") for name in (*SCORES, "positives"))
                self.hears(on, row["site"], row["group"], row["n"], scored, sites if row["site"] == ALL else None)
            self.unpacks(on, sites, answered_in)
            if on == part:
                self.compares(on, sites)
            self.page(get("/runs/1", params={"on": on, "show": "all"}, headers={"accept": "text/html"}).text, on, sites)
        for site in get("/api/runs/1").json()["sites"]:
            self.hears("train", site["name"], ALL, site["train_n"], False)
        for row in csv.DictReader(io.StringIO(get("/runs/1/curves.csv").text)):
            scored = any(row[name] not in ("", "withheld") for name in SCORES)
            group = ALL if row["group"] == "all groups" else row["group"]
            self.hears("validation", ALL, group, row["n"], scored, answered_in[int(row["round"]) - 1])
        for line in get("/metrics").text.splitlines():
            if found := re.match(r'remind_group_(patients|score)\{group="([^"]*)",patients="(\w+)".*\} (\S+)$', line):
                kind, group, on, value = found.groups()
                sites = last if on == "validation" else None
                if group == "small":  # the groups that are not ranked, together
                    self.together(self.small[on], on, float(value) if kind == "patients" else None, sites)
                else:
                    self.hears(on, ALL, group, float(value) if kind == "patients" else None, kind == "score", sites)

    def unpacks(self, on, sites, answered_in):
        """Everything that can be downloaded, file by file; one that is not known here has to be taught first."""
        packed = self.client.get("/runs/1/everything.zip").content
        read = {"groups", "matrix", "hospitals", "experts", "curves", "thresholds", "calibration", "reliability"}
        silent = {"rounds", "decisions", "timeline"}  # `decisions` is made of `reliability` (test_thresholds)
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            for name in archive.namelist():
                file, _, kind = name.removeprefix("run1/").partition(".")
                what, _, part = file.partition("-")
                text = archive.read(name).decode()
                if kind == "json" and what in ("run", "verdict"):
                    self.in_json(json.loads(text), answered_in[-1])
                elif what in read and (part in ("", on) or what == "curves"):
                    for row in csv.DictReader(io.StringIO(text)):
                        self.line(what, row, on, sites, answered_in)
                else:
                    assert what in silent or part not in ("", on), f"{name}: nobody opened it"

    def line(self, what, row, on, sites, answered_in):
        """A row of a file: its numbers, and the classes where it has a score."""
        group = ALL if row.get("group") in ("all groups", "all") else row.get("group", ALL)
        site = row.get("site", ALL)
        telling = (*SCORES, "positives", "sensitivity", "ece")
        scored = any(row.get(name) not in (None, "", "withheld") for name in telling)
        scored |= what == "reliability"
        if what == "curves":
            sites = answered_in[int(row["round"]) - 1]
        if what in ("calibration", "reliability"):  # of the model of a run that ended, on test patients
            on, sites = "test", None
        if site != ALL:
            sites = None
        n = None if what == "reliability" else row.get("n")
        self.hears("validation" if what == "curves" else on, site, group, n, scored, sites)
        if row.get("train_n") not in (None, ""):
            self.hears("train", site, group, row["train_n"], False)

    def in_json(self, found, last):
        """The report of the run, and the answer in short, of the patients that the page begins with."""
        on = found["patients"]
        sites = last if on == "validation" else None
        for site in found["sites"] if isinstance(found["sites"], list) else ():
            self.hears("train", site["name"], ALL, site["train_n"], False)
        overall = found["overall"]
        self.hears(on, ALL, ALL, overall["n"], overall["auroc"] is not None, sites)
        if found.get("recalls"):
            self.hears(on, ALL, ALL, None, True, sites)
        for place, name in (("worst_group", "group"), ("worst_site", "site")):
            if worst := found.get(place):
                at_site, at_group = (worst["name"], ALL) if name == "site" else (ALL, worst["name"])
                self.hears(on, at_site, at_group, worst["scores"]["n"], True, sites if name == "group" else None)

    def compares(self, on, sites):
        """The run beside itself."""
        for row in csv.DictReader(io.StringIO(self.client.get("/compare.csv?first=1&second=1").text)):
            scored = any(row[f"{name}_1"] not in ("", "withheld") for name in (*SCORES, "positives"))
            if row["group"] != "tail groups together":  # heard in `sums`
                group = ALL if row["group"] == "all groups" else row["group"]
                self.hears(on, ALL, group, row["n_1"], scored, sites)

    def sums(self, table, on, sites):
        """The small groups together, and the tail: which groups are in them is shown too."""
        members = {
            "small": {row["name"] for row in table["rows"] if not row["ranked"]},
            "tail": {row["name"] for row in table["rows"] if row["tail"]},
        }
        self.small[on] = members["small"]
        for name, groups in members.items():
            scores = table[name]["scores"]
            if scores and scores["n"] is not None:
                self.together(groups, on, scores["n"], sites)
                if scores["accuracy"] is not None:
                    self.together(groups, on, None, sites)

    def together(self, groups, on, n, sites):
        """Patients of these groups, or a score of theirs, which tells the classes: `n` is None."""
        own = {c: [a for k in groups for a in self.atoms(on, ALL, k, c, sites)] for c in (0, 1)}
        if n is not None:
            self.attacker.hears(own[0] + own[1], n)
            return
        for atoms in own.values():
            self.attacker.hears(atoms, self.attacker.row(atoms) @ self.attacker.count_A)
            self.heard_sums += 1

    def page(self, text, on, sites):
        tables = Cells(text).tables
        for row in (row for row in tables["groups"][1:] if len(row) > 4):
            name = row[1].removesuffix(" tail").strip()
            self.hears("train", ALL, name, row[2], False)
            self.hears(on, ALL, name, row[3], any(re.match(r"\d", cell) for cell in row[4:9]), sites)
        for shown, n, score, *rest in tables["hospitals"][1:]:
            site = shown.removesuffix(" small").removesuffix(" absent").strip()
            assert not shown.endswith(" small") or score != "·", "withheld is not small"
            self.hears(on, site, ALL, n, bool(re.match(r"\d", score)), sites)
            self.hears("train", site, ALL, rest[-1], False)
        names = [cell.strip() for cell in tables["matrix"][0][1:]]
        for row in tables["matrix"][1:]:
            for site, cell in zip(names, row[1:], strict=True):
                if cell and not cell.startswith("withheld") and cell != "–":  # a hospital that was not measured
                    score, n, *_ = ["·", *cell.split("\n")] if cell.isdecimal() else cell.split("\n")
                    self.hears(on, site, row[0].removesuffix(" tail").strip(), n, score not in ("·", "–"), sites)

    def knows_totals(self):
        """What `remind data describe` tells of the same hospitals: training, validation and test together."""
        for axis in (1, 2):
            for name in {a[axis] for a in self.attacker.place}:
                own = [a for a in self.attacker.place if a[axis] == name]
                if (n := int(self.attacker.row(own) @ self.attacker.count_A)) >= MINIMUM:
                    self.attacker.hears(own, n)

    def sets(self):
        """Every number that the views have room for."""
        answers = [None, *self.present.values()]
        found = []
        for part in ("validation", "test", "train"):
            sites = {a[1] for a in self.atoms(part)}
            names = {a[2] for a in self.atoms(part)}
            for c in (None, 0, 1) if part != "train" else (None,):
                margins = answers if part == "validation" else [None]
                found += [self.atoms(part, ALL, group, c, among) for group in (ALL, *names) for among in margins]
                if part != "train" or c is None:
                    found += [self.atoms(part, site, ALL, c) for site in sites]
                if part != "train":
                    found += [self.atoms(part, site, group, c) for site in sites for group in names]
        return [own for own in found if own]


@pytest.mark.parametrize(("share", "scale"), [(0.5, 1), (0.15, 4)])
def test_nothing_small_follows_from_all_views(engine, tmp_path, client_of, share, scale):
    patients = {site: {k: n * scale for k, n in found.items()} for site, found in SITES.items()}
    drill = Drill(engine, tmp_path / "results" / "run", patients, patients=patients, share=share).start()
    reader = Reader(drill, client_of(min_count=MINIMUM))
    answered = []
    for absent in ({}, {"Davos": "no answer in time"}, {"Elm": "no answer in time"}, {}):
        drill.round(absent)
        answered.append([site for site in patients if site not in absent])
        reader.present[len(answered)] = answered[-1]
        reader.looks(answered)
    assert len(reader.attacker.heard) > 30
    sets = reader.sets()
    assert not reader.attacker.finds_below(MINIMUM, sets)
    shown = {k for k in reader.name_of.values() if reader.attacker.follows(reader.atoms("validation", ALL, k))}
    assert "fundus" in shown
    drill.finish()
    reader.looks([*answered, answered[-1]])
    reader.knows_totals()
    assert not reader.attacker.finds_below(MINIMUM, sets)
