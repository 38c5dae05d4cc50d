"""Sites of secure aggregation whose keys are dealt."""

import pytest

from remind.secagg.site import SecureSite
from tests.secagg.consortium import Consortium


@pytest.fixture(scope="module")
def dealt():
    """Five sites whose keys are dealt; each test uses a slot of its own or copies of the sites."""
    return Consortium(5, slots=2)


@pytest.fixture
def five(dealt):
    """The same five sites, as they are before the first slot."""
    fresh = Consortium(5, slots=2, deal=False)
    fresh.sites = {name: SecureSite(site.state) for name, site in dealt.sites.items()}
    fresh.book, fresh.roster, fresh.deals = dealt.book, dealt.roster, dealt.deals
    return fresh
