"""No report overwrites that of another request; the same request continues in its folder."""

import pytest

from remind.errors import UserError
from remind_studies.cells.folder import CELLS, MARK, REPORT
from remind_studies.stored_request import StoredRequest, folder_for

BEFORE = StoredRequest(
    study="compare",
    options={},
    cohort=("hearts", "f00d", 120),
    common={"train.lr": 0.1},
    clients=3,
    metric="auroc",
    tune=0,
    anchors=True,
    seeds=(0, 1),
    arms={"softmoe": {"settings": {}}, "remind": {"settings": {"dro.gamma": 0.02}}},
)
CHANGES = {
    "options": {"share": 0.5},
    "cohort": ("hearts", "f00d", 121),
    "common": {"train.lr": 0.2},
    "clients": 4,
    "metric": "accuracy",
    "tune": 2,
    "anchors": False,
    "seeds": (1, 2),
    "arms": {"softmoe": {"settings": {}}},
}


def report_of(path, asked):
    folder = folder_for(asked, None, path, lambda _: None)
    folder.write(MARK, asked.model_dump_json())
    folder.write(REPORT, "the report")
    return folder


@pytest.mark.parametrize("field", CHANGES)
def test_another_question_gets_another_folder_or_is_refused(tmp_path, field):
    report_of(tmp_path / "compare", BEFORE)
    other, said = BEFORE.model_copy(update={field: CHANGES[field]}), []
    with pytest.raises(UserError, match=f"other {'methods' if field == 'arms' else field}"):
        folder_for(other, tmp_path / "compare", tmp_path / "compare", said.append)
    folder = folder_for(other, None, tmp_path / "compare", said.append)
    assert folder.path == tmp_path / "compare-2"
    assert len(said) == 1
    assert (tmp_path / "compare" / REPORT).read_text() == "the report"
    report_of(tmp_path / "compare", other)
    assert folder_for(other, None, tmp_path / "compare", said.append).path == tmp_path / "compare-2", (
        "it continues there"
    )


@pytest.mark.parametrize(
    "more",
    [{}, {"seeds": (0, 1, 2)}, {"arms": BEFORE.arms | {"groupdro": {"settings": {}}}}],
    ids=["the same", "a seed", "a method"],
)
def test_the_same_question_and_more_of_it_go_on_in_the_folder(tmp_path, more):
    report_of(tmp_path / "compare", BEFORE)
    asked = BEFORE.model_copy(update=more)
    for out in (None, tmp_path / "compare"):
        assert folder_for(asked, out, tmp_path / "compare", lambda _: None).path == tmp_path / "compare"


def test_a_report_of_unknown_making_is_kept(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / REPORT).write_text("old")
    with pytest.raises(UserError, match="contains the report"):
        folder_for(BEFORE, tmp_path / "old", tmp_path / "old", lambda _: None)


def test_a_folder_without_a_report_is_free(tmp_path):
    (tmp_path / "compare" / CELLS).mkdir(parents=True)
    (tmp_path / "compare" / MARK).write_text(BEFORE.model_dump_json())
    other = BEFORE.model_copy(update={"seeds": (7,)})
    assert folder_for(other, None, tmp_path / "compare", lambda _: None).path == tmp_path / "compare"


def test_runs_of_the_folder_beside_count(tmp_path):
    first = report_of(tmp_path / "compare", BEFORE)
    (first.path / CELLS / "abc.json").write_text("{}")
    second = folder_for(BEFORE.model_copy(update={"seeds": (7,)}), None, tmp_path / "compare", lambda _: None)
    assert second.has("abc")
    assert not second.has("abd")
    assert (second.path / CELLS / "abc.json").read_text() == "{}"
