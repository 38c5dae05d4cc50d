"""Sites of secure aggregation whose keys are dealt."""

import pytest

from tests.builders.secagg_parties import Consortium


@pytest.fixture(scope="session")
def dealt():
    """Five sites whose keys are dealt."""
    return Consortium(5, slots=2)


@pytest.fixture
def five(dealt):
    """The same five sites, as they are before the first slot."""
    return dealt.again()
