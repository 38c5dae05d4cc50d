"""A helper for tests of files that must be refused."""

import pytest

from remind.data.files import Unreadable


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
