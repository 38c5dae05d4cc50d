"""A small cohort in .csv files that tests can damage."""

from pathlib import Path

import pytest

DECLARATION = """\
name = "small"

[patients]
id = "pid"

[label]
classes = ["no", "yes"]

[modalities.clinical]
kind = "table"
columns = ["age", "sex"]
categories = { sex = ["f", "m"] }

[modalities.vitals]
kind = "series"
time = "minute"
time_unit = "minute"
items = ["HR", "Temp"]
horizon = 48
"""
FILES = {
    "cohort.toml": DECLARATION,
    "patients.csv": "pid,label,site\n001,no,a\n002,yes,a\n003,1,b\n004,0,b\n",
    "clinical.csv": "pid,age,sex\n001,50,f\n002,,m\n003,,\n",
    "vitals.csv": "pid,minute,item,value\n004,90,Temp,37.5\n002,30,HR,81\n004,60,HR,70\n003,0,HR,\n003,6,Temp,36\n",
}


class Folder:
    """A cohort folder whose files can be edited."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name, text in FILES.items():
            (path / name).write_text(text)

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.path / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new, 1))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
