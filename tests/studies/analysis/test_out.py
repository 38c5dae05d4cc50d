"""An analysis is never written into a folder with other files."""

import pytest

from remind.errors import UserError
from remind_studies.analysis.document import PAGE_FILE
from remind_studies.analysis.request import _make


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match="contains other files than an analysis"):
        _make(tmp_path)
    (tmp_path / PAGE_FILE).write_text("")
    _make(tmp_path)
    _make(tmp_path / "new")
    assert (tmp_path / "new").is_dir()
