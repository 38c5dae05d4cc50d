"""Schemas: the inputs of the fingerprint, and the description of a difference."""

import pytest

from remind.data.cohort.declaration import read_declaration
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.cohort.kinds.table import TableSchema
from remind.data.cohort.read import read_cohort
from remind.data.cohort.schema import CohortSchema, difference

TABLE = TableSchema(name="labs", columns=("na", "k", "sex"), categories={"sex": ("f", "m")})
SERIES = SeriesSchema(name="vitals", items=("HR", "Temp"), horizon_hours=48)
SCHEMA = CohortSchema(name="ours", classes=("no", "yes"), modalities=(TABLE, SERIES))


def with_table(**changes):
    return SCHEMA.model_copy(update={"modalities": (TABLE.model_copy(update=changes), SERIES)})


def with_series(**changes):
    return SCHEMA.model_copy(update={"modalities": (TABLE, SERIES.model_copy(update=changes))})


DIFFERENT = {
    "classes: no, yes against no, maybe": SCHEMA.model_copy(update={"classes": ("no", "maybe")}),
    "order of the modalities: labs, vitals against vitals, labs": SCHEMA.model_copy(
        update={"modalities": (SERIES, TABLE)}
    ),
    "modalities: only the first has vitals": SCHEMA.model_copy(update={"modalities": (TABLE,)}),
    "labs, columns: only the second has ca": with_table(columns=("na", "k", "sex", "ca")),
    "labs, columns: order na, k, sex against k, na, sex": with_table(columns=("k", "na", "sex")),
    "labs, categories of sex: f, m against f, m, x": with_table(categories={"sex": ("f", "m", "x")}),
    "labs, mean of na: none against 140.0": with_table(mean={"na": 140.0}),
    "labs, standardise: train against none": with_table(standardise="none"),
    "vitals, items: only the first has Temp": with_series(items=("HR",)),
    "vitals, horizon_hours: 48.0 against 24.0": with_series(horizon_hours=24.0),
    "vitals: kind series against table": SCHEMA.model_copy(
        update={"modalities": (TABLE, TableSchema(name="vitals", columns=("HR",)))}
    ),
}


@pytest.mark.parametrize("words", DIFFERENT)
def test_difference_and_fingerprint_agree(words):
    other = DIFFERENT[words]
    assert difference(SCHEMA, other) == [words]
    assert other.fingerprint != SCHEMA.fingerprint


def test_the_name_is_no_part_of_the_fingerprint():
    other = SCHEMA.model_copy(update={"name": "theirs"})
    assert difference(SCHEMA, other) == []
    assert other.fingerprint == SCHEMA.fingerprint


def test_description_reads_back():
    assert CohortSchema.model_validate(SCHEMA.describe()) == SCHEMA
    assert CohortSchema.model_validate_json(SCHEMA.model_dump_json()) == SCHEMA


def test_file_and_id_names_are_no_part_of_the_fingerprint(folder):
    before = read_cohort(folder.path).schema
    (folder.path / "clinical.csv").rename(folder.path / "c.csv")
    folder.edit("c.csv", "pid", "number")
    folder.edit("cohort.toml", "[modalities.v", 'file = "c.csv"\nid = "number"\n[modalities.v')
    folder.edit("cohort.toml", '"small"', '"other"')
    after = read_cohort(folder.path).schema
    assert after.fingerprint == before.fingerprint
    assert after.name == "other"


def test_declaration_is_frozen(folder):
    declared, _ = read_declaration(folder.path)
    with pytest.raises(ValueError, match="frozen"):
        setattr(declared, "name", "y")  # noqa: B010
