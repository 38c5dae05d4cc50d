"""Helpers of tests of files: what is refused, and DICOM datasets read as a picture or a volume."""

import pytest

from remind.data.files import Unreadable, read_image, read_volume
from tests.builders.dicoms import write


@pytest.fixture
def refused():
    """Call a reader that must refuse; what it says."""

    def call(reader, *arguments, **options):
        with pytest.raises(Unreadable) as caught:
            reader(*arguments, **options)
        assert str(caught.value) == f"{caught.value.what}; {caught.value.remedy}"
        assert caught.value.what
        assert caught.value.remedy
        return str(caught.value)

    return call


@pytest.fixture
def image(tmp_path):
    """Write a dataset and read it as an image."""

    def call(made, channels=1, window=None):
        return read_image(write(tmp_path / "a.dcm", made), (made.Rows, made.Columns), channels, window, False)

    return call


@pytest.fixture
def volume(tmp_path):
    def call(made, channels=1, window=None):
        size = (made.NumberOfFrames, made.Rows, made.Columns)
        return read_volume(write(tmp_path / "a.dcm", made), size, channels, window, False)

    return call
