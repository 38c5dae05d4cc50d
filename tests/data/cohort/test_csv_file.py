"""Reading .csv: quotation marks, lines, separators, encodings. No row may be lost, and no message may show one."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.data.checks.check import check_cohort
from remind.data.cohort.csv_file import read_csv
from remind.data.cohort.csv_layout import Layout
from tests.builders.cohorts import contents

TOML = 'name = "c"\n[label]\nclasses = ["no", "yes"]\n'
NOTES = '[modalities.notes]\nkind = "text"\n'
PATIENTS = "patient_id,label\n" + "".join(f"p{i:03d},{'no' if i % 2 else 'yes'}\n" for i in range(40))
LABS = "patient_id,a\n" + "".join(f"p{i:03d},{i}.5\n" for i in range(40))
TABLE = '[modalities.labs]\nkind = "table"\ncolumns = ["a"]\n'


def cohort(folder: Path, toml: str = "", **files: str | bytes) -> Path:
    """A cohort of forty patients with labs, and what a test adds or puts in the place of one."""
    folder.mkdir(exist_ok=True)
    files = {"patients": PATIENTS, "labs": LABS, **files}
    for name, text in files.items():
        (folder / f"{name}.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    (folder / "cohort.toml").write_text(TOML + TABLE + toml)
    return folder


def notes(**changed: str) -> str:
    lines = {f"p{i:03d}": f"note of p{i:03d}" for i in range(40)} | changed
    return "patient_id,text\n" + "".join(f"{who},{text}\n" for who, text in lines.items())


SERIES = '[modalities.v]\nkind = "series"\nitems = ["HR"]\nhorizon = 48\n'
CODES = '[modalities.dx]\nkind = "codes"\n'
# Each: sections, file, its text, the line where the quotation mark is opened.
OPEN = {
    "never closed, last column": (NOTES, "notes", notes(p005='"fell'), 7),
    "closed by the next opening one": (NOTES, "notes", notes(p005='"fell', p020='"slipped"'), 7),
    "closed many rows later": (NOTES, "notes", notes(p005='"fell', p020='cut of 5"'), 7),
    "closed one row later": (NOTES, "notes", notes(p005='"fell', p006='cut of 5"'), 7),
    "in the first column": (NOTES, "notes", notes(p005="x").replace("p005,", '"p005,'), 7),
    "in the header": (NOTES, "notes", notes().replace("patient_id,text", 'patient_id,"text'), 1),
    "escaped by a backslash": (NOTES, "notes", notes(p005=r'"he said \"ow\", and left"'), 7),
    "all cells in quotes": (
        NOTES,
        "notes",
        '"patient_id","text"\n' + "".join(f'"p{i:03d}","n{"" if i == 5 else chr(34)}\n' for i in range(40)),
        7,
    ),
    "in a column that is not used": (
        SERIES,
        "v",
        "patient_id,time,item,value,comment\n"
        + "".join(f"p{i:03d},1,HR,80,{chr(34) if i == 5 else ''}\n" for i in range(40)),
        7,
    ),
    "closed later in a column that is not used": (
        SERIES,
        "v",
        "patient_id,comment,time,item,value\n"
        + "".join(f"p{i // 2:03d},{ {9: chr(34), 20: 'x' + chr(34)}.get(i, '') },1,HR,80\n" for i in range(40)),
        11,
    ),
    "codes, closed later": (
        CODES,
        "dx",
        "patient_id,code\n"
        + "".join(f"p{i // 2:03d},{ {5: chr(34), 9: 'A' + chr(34)}.get(i, 'I21') }\n" for i in range(40)),
        7,
    ),
    "the patients themselves": ("", "patients", PATIENTS.replace("p005,no", 'p005,"no'), 7),
    "patients, closed later": (
        "",
        "patients",
        PATIENTS.replace("label\n", "label,remark\n")
        .replace("no\n", "no,\n")
        .replace("yes\n", "yes,\n")
        .replace("p005,no,", 'p005,no,"')
        .replace("p021,no,", 'p021,no,x"'),
        7,
    ),
    "a path": (
        '[modalities.xray]\nkind = "image"\nfile = "x.csv"\n',
        "x",
        'patient_id,path\np000,\np001,"a.png\np002,b.png\n',
        3,
    ),
}


@pytest.mark.parametrize("case", OPEN)
def test_an_unbalanced_quotation_mark_is_named_with_its_line(case, tmp_path):
    toml, name, text, line = OPEN[case]
    report = check_cohort(cohort(tmp_path / "c", toml, **{name: text}))
    found = [(p.file, p.row) for p in report.problems]
    assert (f"{name}.csv", line) in found, report.to_text()
    assert "quotation mark" in report.to_text()
    assert "note of" not in report.to_text()


# Each: sections, file, its text. Marks around every cell that a .csv takes for a part of the cell.
OTHER_MARKS = {
    "single": (CODES, "dx", "patient_id,code\n" + "".join(f"p{i:03d},'I2{i % 7}'\n" for i in range(40))),
    "after a space": (CODES, "dx", "patient_id,code\n" + "".join(f'p{i:03d}, "I2{i % 7}"\n' for i in range(40))),
    "some after a space": (
        CODES,
        "dx",
        "patient_id,code\n" + "".join(f'p{i:03d},{" " if i % 2 else ""}"I2{i // 2 % 5}"\n' for i in range(40)),
    ),
    "typographic": (NOTES, "notes", "patient_id,text\n" + "".join(f"p{i:03d},“note of {i}”\n" for i in range(40))),
    "labels": ("", "patients", PATIENTS.replace(",no", ",'no'").replace(",yes", ",'yes'")),
    "with a comma, after a space": (
        NOTES,
        "notes",
        "patient_id,text\n" + "".join(f'p{i:03d}, "fell, note of {i}"\n' for i in range(40)),
    ),
    "with a comma, single": (NOTES, "notes", "patient_id,text\np000,'fell, note of 0'\n"),
}


@pytest.mark.parametrize("case", OTHER_MARKS)
def test_other_quotation_marks_are_never_read_as_text(case, tmp_path):
    toml, name, text = OTHER_MARKS[case]
    problems = [
        p for p in check_cohort(cohort(tmp_path / "c", toml, **{name: text})).problems if p.file == f"{name}.csv"
    ]
    assert any("directly after" in p.remedy for p in problems), problems
    assert "note of" not in " ".join(p.what + p.remedy for p in problems)


def test_marks_that_belong_to_some_texts_stay(tmp_path):
    cells = {f"p{i:03d}": f'"""ow"" {i}"' if i % 2 else "'s avonds" for i in range(40)}
    text = "patient_id,text\n" + "".join(f"{who},{cell}\n" for who, cell in cells.items())
    assert check_cohort(cohort(tmp_path / "c", NOTES, notes=text)).ok


LEGITIMATE = {
    "several lines": 'notes of\n\n"two" lines\n',
    "a list": "1, aspirin\n2, metoprolol",
    "a comma and a number": "Heparin\n3,5 mg",
    "quotes within": 'said "ow", left',
    "windows": "a\r\nb\r\n",
    "only quotes": '""',
}


@pytest.mark.parametrize("case", LEGITIMATE)
def test_notes_of_several_lines_are_read_as_they_are(case, tmp_path):
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerows([("patient_id", "text"), *((f"p{i:03d}", LEGITIMATE[case]) for i in range(40))])
    folder = cohort(tmp_path / "c", NOTES, notes=stream.getvalue().encode())
    report = check_cohort(folder)
    assert report.ok, report.to_text()
    from remind.data.cohort.read import read_cohort

    assert contents(read_cohort(folder), "notes").source_N.tolist() == [LEGITIMATE[case].strip()] * 40


def test_a_mark_within_an_unquoted_cell_is_a_character(tmp_path):
    folder = cohort(tmp_path / "c", NOTES, notes=notes(p005='cut of 5" today', p006='6"'))
    from remind.data.cohort.read import read_cohort

    assert contents(read_cohort(folder), "notes").source_N[[5, 6]].tolist() == ['cut of 5" today', '6"']


CELL = st.text(st.sampled_from('a",\n\r 0'), max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_layout_and_table_agree_with_what_was_written(tmp_path_factory, rows, quoting):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    stream = io.StringIO()
    csv.writer(stream, quoting=quoting).writerows([("x", "y"), *rows])
    path.write_bytes(stream.getvalue().encode())
    problems = []
    found = read_csv(path, problems)
    assert not problems
    table, layout = found
    assert [(r["x"] or "", r["y"] or "") for r in table.to_pylist()] == rows
    line = 2
    for i, (x, y) in enumerate(rows):
        assert layout.line_of(i, 0) == line
        assert layout.line_of(i, 1) == line + breaks(x)
        line += breaks(x) + breaks(y) + 1


def breaks(text: str) -> int:
    return text.replace("\r\n", "\n").replace("\r", "\n").count("\n")


def test_blank_lines_and_notes_count(tmp_path):
    labs = "\n\npatient_id,a\n\np000,1\r\n\r\n\np001,<50\n"
    (problem,) = check_cohort(cohort(tmp_path / "c", labs=labs)).problems
    assert (problem.file, problem.row, problem.value) == ("labs.csv", 8, "<50")
    text = 'patient_id,text,order\np000,"a\n\nb",1\np001,"c\nd\n",early\n'
    (problem,) = check_cohort(cohort(tmp_path / "c", NOTES + 'order = "order"\n', notes=text)).problems
    assert problem.value == "early"
    assert text.splitlines()[problem.row - 1].endswith("early")


def test_layout_of_large_steps(monkeypatch):
    monkeypatch.setattr("remind.data.cohort.csv_layout.STEP", 3)
    layout = Layout.of(np.frombuffer(b'x,y\n"a\n""b",c\n\nd,e\n', dtype=np.uint8))
    assert layout.mistake is None
    assert layout.rows.tolist() == [[0, 3], [4, 13], [15, 18]]
    assert [layout.line_of(0, 1), layout.line_of(1, 0)] == [3, 5]
    assert layout.widths().tolist() == [2, 2, 2]


# Each: bytes of labs.csv, words of the message.
FOREIGN: dict[str, tuple[str | bytes, list[str]]] = {
    "semicolons and decimal commas": ("patient_id;a\np000;1,5\np001;2,5\n", ["semicolons", "decimal commas", "comma"]),
    "semicolons": ("patient_id;a\np000;1\n", ["semicolons, not by commas;", "comma-separated"]),
    "tabs": ("patient_id\ta\np000\t1\n", ["tabs"]),
    "bars": ("patient_id|a\np000|1\n", ["vertical bars"]),
    "sep=": ("sep=;\npatient_id;a\np000;1\n", ["sep=", "remove that line"]),
    "utf-16": ("patient_id\ta\np000\t1\n".encode("utf-16"), ["UTF-16", "CSV UTF-8"]),
    "utf-16 without a mark": ("patient_id,a\np000,1\n".encode("utf-16-le"), ["UTF-16"]),
    "cp1252": ("patient_id,a,ort\np000,1,x\np001,2,Köln\n".encode("cp1252"), ["line 3", "not UTF-8", "CSV UTF-8"]),
    "cp1252 in the header": ("patient_id,a,größe\np000,1,x\n".encode("cp1252"), ["line 1", "not UTF-8"]),
    "decimal commas between commas": (
        "patient_id,a\np000,1\np001,2,5\n",
        ["line 3", "3 cells", "2 columns", "decimal point"],
    ),
    "decimal comma in quotes": ('patient_id,a\np000,"2,5"\n', ["line 2", "'2,5'", "decimal point"]),
    "gzip": (b"\x1f\x8b\x08\x00rest", ["gzip", "unpack"]),
    "excel": (b"PK\x03\x04rest", ["Excel"]),
    "two names": ("patient_id,a,a\np000,1,2\n", ["two columns are named 'a'"]),
    "too few": ("patient_id,a\np000\np001\n", ["line 2", "1 cell,", "2 rows in all"]),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_other_programs_write_is_named_and_no_row_is_shown(case, tmp_path):
    text, parts = FOREIGN[case]
    (problem,) = check_cohort(cohort(tmp_path / "c", labs=text)).problems
    assert problem.file == "labs.csv"
    assert all(part in str(problem) for part in parts), str(problem)
    assert "p000" not in str(problem)
    assert "p001" not in str(problem)


def test_a_byte_order_mark_and_old_line_breaks(tmp_path):
    for labs in (
        b"\xef\xbb\xbf" + LABS.encode(),
        LABS.replace("\n", "\r\n").encode(),
        LABS.replace("\n", "\r").encode(),
    ):
        assert check_cohort(cohort(tmp_path / "c", labs=labs)).ok


def test_a_row_longer_than_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr("remind.data.cohort.csv_file.BLOCK", 1 << 12)
    long = '"' + "word, " * 3000 + '"'
    assert check_cohort(cohort(tmp_path / "c", NOTES, notes=notes(p005=long))).ok


@pytest.mark.parametrize("other", ["labs.tsv", "labs.xlsx", "labs.csv.gz", "Labs.CSV"])
def test_a_file_of_another_format_is_named(other, tmp_path):
    folder = cohort(tmp_path / "c")
    (folder / "labs.csv").rename(folder / other)
    (problem,) = check_cohort(folder).problems
    assert f"there is {other}: save it as labs.parquet or labs.csv" in str(problem)
