"""OMOP CDM: a small one by hand. Nothing after the index time is an input; every outcome; mistakes in one message."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from remind.cli import app
from remind.data.checks.check import check_cohort
from remind.data.cohort.read import read_cohort
from remind.data.importers.omop import OmopSettings, import_omop
from remind.errors import UserError

MODALITIES = """
[modalities.person]
table = "person"
[modalities.labs]
table = "measurement"
items.Creatinine = { concepts = [3016723, 3051825], units = { 8840 = 1.0, 8749 = 0.0113 }, low = 0, high = 30 }
items.Lactate = { concepts = [3047181] }
[modalities.drugs]
table = "drug_exposure"
[modalities.conditions]
table = "condition_occurrence"
vocabulary = [316139, 201826]
[modalities.notes]
table = "note"
"""
# person, visits: 1 two stays 10 days apart, 2 dies in hospital on day 6, 3 stays for 30 days, 4 leaves after a day
VISITS = [
    (10, 1, 9201, "2020-03-01 08:00:00", "2020-03-06 12:00:00", 7),
    (11, 1, 9201, "2020-03-16 08:00:00", "2020-03-20 12:00:00", 7),
    (20, 2, 9201, "2020-03-01 00:00:00", "2020-03-07 00:00:00", 8),
    (30, 3, 262, "2020-03-01 20:00:00", "2020-03-31 20:00:00", 8),
    (40, 4, 9201, "2020-03-01 08:00:00", "2020-03-02 08:00:00", 8),
    (50, 5, 9202, "2020-03-01 08:00:00", "2020-03-09 08:00:00", 8),
]
MEASURED = [
    (1, 3016723, "2020-03-01 09:00:00", 1.0, 8840),
    (1, 3016723, "2020-03-03 08:00:00", 100.0, 8749),
    (1, 3016723, "2020-03-03 08:00:01", 9.0, 8840),  # after the index time
    (1, 3016723, "2020-03-01 07:59:00", 9.0, 8840),  # before the visit
    (1, 3047181, "2020-03-16 09:00:00", 2.5, ""),
    (2, 3051825, "2020-03-02 00:00:00", 5.0, 4444),  # a unit that nobody named
    (2, 3051825, "2020-03-02 00:00:00", 500.0, 8840),  # beyond the bounds
    (2, 3051825, "2020-03-02 01:00:00", "", 8840),
    (2, 999, "2020-03-02 01:00:00", 1.0, 8840),
    (3, 3047181, "2020-03-02 00:00:00", 4.0, ""),
]


@pytest.fixture
def cdm(tmp_path):
    folder = tmp_path / "cdm"
    folder.mkdir()

    def write(table, columns, rows):
        pd.DataFrame(rows, columns=columns.split()).to_csv(folder / f"{table}.csv", index=False)

    dated = [(v, p, c, s[:10], e[:10], s, e, site) for v, p, c, s, e, site in VISITS]
    write(
        "visit_occurrence",
        "visit_occurrence_id person_id visit_concept_id visit_start_date visit_end_date visit_start_datetime "
        "visit_end_datetime care_site_id",
        dated,
    )
    write("person", "person_id gender_concept_id year_of_birth", [(p, 8507 + 25 * (p % 2), 1950) for p in range(1, 6)])
    write("death", "person_id death_date", [(2, "2020-03-07"), (1, "2020-04-10")])
    write(
        "measurement",
        "person_id measurement_concept_id measurement_datetime value_as_number unit_concept_id",
        MEASURED,
    )
    write(
        "drug_exposure",
        "person_id drug_concept_id drug_exposure_start_date",
        [(1, 1112807, "2020-03-02"), (1, 1112807, "2020-03-05"), (2, 0, "2020-03-02")],
    )
    write(
        "condition_occurrence",
        "person_id condition_concept_id condition_start_date visit_occurrence_id",
        [
            (1, 316139, "2020-03-01", 10),  # of the first visit: an input of the second
            (2, 201826, "2019-01-01", ""),
            (2, 316139, "2020-03-02", 20),
            (3, 4000, "2019-01-01", ""),
        ],
    )
    write(
        "note",
        "person_id note_date note_datetime note_type_concept_id note_text",
        [
            (1, "2020-03-02", "2020-03-02 10:00:00", 5, "second"),
            (1, "2020-03-01", "2020-03-01 10:00:00", 5, "first"),
            (1, "2020-03-06", "2020-03-06 10:00:00", 5, "the patient went home"),
            (3, "2020-03-03", "", 5, "known only from the next day, after the index time"),
        ],
    )
    return folder


def run(cdm, tmp_path, label, visits="", modalities=MODALITIES):
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(f'name = "omop"\n[visits]\n{visits}\n[label]\n{label}\n{modalities}')
    return import_omop(OmopSettings(cdm, mapping, tmp_path / "out"))


def table(tmp_path, name):
    return pd.read_parquet(tmp_path / f"out/{name}.parquet")


def test_inputs_are_what_was_known_at_the_index_time(cdm, tmp_path):
    summary = run(cdm, tmp_path, 'kind = "death"', 'sites = "care_site_id"')
    patients = table(tmp_path, "patients").set_index("patient_id")
    assert patients["label"].to_dict() == {10: "no", 11: "no", 20: "yes", 30: "no"}
    assert patients["person"].to_dict() == {10: 1, 11: 1, 20: 2, 30: 3}
    assert patients["site"].to_dict() == {10: "7", 11: "7", 20: "8", 30: "8"}
    labs = [tuple(row) for row in table(tmp_path, "labs").round(4).itertuples(index=False)]
    assert labs == [
        (10, 1.0, "Creatinine", 1.0),
        (10, 48.0, "Creatinine", 1.13),
        (11, 1.0, "Lactate", 2.5),
        (30, 4.0, "Lactate", 4.0),
    ]
    assert table(tmp_path, "drugs").values.tolist() == [[10, "1112807"]]
    assert table(tmp_path, "conditions").values.tolist() == [[11, "316139"], [20, "201826"]]
    notes = table(tmp_path, "notes")
    assert notes["text"].tolist() == ["second", "first"]
    assert set(notes["patient_id"]) == {10}
    people = table(tmp_path, "person").set_index("patient_id")
    assert people.loc[10].tolist() == [70, "female"]
    left = dict(summary.left_out)
    assert left["visits that ended before the index time"] == 1
    assert left["labs: values of another unit"] == 1
    assert left["labs: values outside the bounds of their item"] == 1
    assert left["labs: values without a number"] == 1
    assert not check_cohort(tmp_path / "out").problems
    assert len(read_cohort(tmp_path / "out")) == 4


@pytest.mark.parametrize(
    ("label", "kind", "columns"),
    [
        ('kind = "death-later"\ndays = 30', "classes", {"label": ["no", "yes", "yes", "no"]}),
        ('kind = "readmission"\ndays = 30', "classes", {"label": ["yes", "no", "no"]}),
        ('kind = "readmission"\ndays = 5', "classes", {"label": ["no", "no", "no"]}),
        (
            'kind = "length-of-stay"\nedges = [3, 5, 7, 20]',
            "survival",
            {"time": [5 + 4 / 24, 4 + 4 / 24, 6.0, 30.0], "event": ["left", "left", "died", "left"]},
        ),
        (
            'kind = "conditions"\nconditions = { failure = [316139, 7], diabetes = [201826] }',
            "multilabel",
            {"failure": ["yes", "no", "yes", "no"], "diabetes": ["no"] * 4},
        ),
    ],
)
def test_every_outcome(cdm, tmp_path, label, kind, columns):
    run(cdm, tmp_path, label)
    found = table(tmp_path, "patients").to_dict(orient="list")
    assert {name: found[name] for name in columns} == {
        name: pytest.approx(values) if isinstance(values[0], float) else values for name, values in columns.items()
    }
    assert read_cohort(tmp_path / "out").schema.predicts.kind == kind if "no" in str(columns) else True


def test_first_visits_and_other_hours(cdm, tmp_path):
    run(cdm, tmp_path, 'kind = "death"', "first = true\nhours = 12\nconcepts = [9201]")
    assert table(tmp_path, "patients")["patient_id"].tolist() == [10, 20, 40]
    assert table(tmp_path, "labs")["time"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("label", "modalities", "says"),
    [
        ('kind = "dead"', MODALITIES, "label.kind"),
        ('kind = "conditions"', MODALITIES, "name two or more"),
        ('kind = "death"', '[modalities.x]\ntable = "procedure_occurrence"', "modalities.x"),
        ('kind = "death"', '[modalities."a b"]\ntable = "note"', "letters, digits"),
        ('kind = "death"', MODALITIES.replace("8840 =", "mgdl ="), "no unit_concept_id"),
        ('kind = "death"', MODALITIES + "\nhorizon = 3", "horizon"),
    ],
)
def test_a_mapping_that_is_wrong_is_one_message(cdm, tmp_path, label, modalities, says):
    with pytest.raises(UserError, match=rf"(?s)--mapping .*mapping\.toml is not a valid mapping.*{says}"):
        run(cdm, tmp_path, label, modalities=modalities)
    assert not (tmp_path / "out").exists()


def test_tables_and_columns_that_are_missing_are_named_together(cdm, tmp_path):
    (cdm / "note.csv").unlink()
    pd.read_csv(cdm / "measurement.csv").drop(columns="measurement_datetime").to_csv(cdm / "measurement.csv")
    with pytest.raises(UserError, match=r"(?s)not the files of an OMOP CDM.*measurement_datetime.*note\.csv|note\.csv"):
        run(cdm, tmp_path, 'kind = "death"')


def test_the_command(cdm, tmp_path):
    (tmp_path / "m.toml").write_text(f'name = "x"\n[label]\nkind = "death"\n{MODALITIES}')
    words = ["--cdm", str(cdm), "--mapping", str(tmp_path / "m.toml"), "--out", str(tmp_path / "c")]
    done = CliRunner().invoke(app, ["data", "import", "omop", *words])
    assert done.exit_code == 0, done.output
    assert "wrote 4 examples of 3 persons" in done.output
