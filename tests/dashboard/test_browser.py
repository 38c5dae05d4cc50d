"""Files of tests share a process in any order: what one that needs a browser leaves behind, the next must not meet."""

import pytest

from tests.dashboard.browser import CHROMIUM

pytest_plugins = ("pytester",)

FIXTURES = "from tests.dashboard.browser import chromium\n"
BROWSER = """
def test_a_page(chromium):
    context = chromium.new_context()
    assert context.new_page().evaluate("1 + 1") == 2
    context.close()
"""
LOOP = """
import asyncio

async def scene():
    return "done"

def test_a_loop():
    assert asyncio.run(scene()) == "done"
"""


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not there")
def test_after_a_browser_there_is_room_for_an_event_loop(pytester):
    pytester.makeconftest(FIXTURES)
    pytester.makepyfile(test_1_browser=BROWSER, test_2_loop=LOOP, test_3_browser=BROWSER)
    found = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    found.assert_outcomes(passed=3)
