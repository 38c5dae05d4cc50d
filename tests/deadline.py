"""``--start-within SECONDS``: tests that would begin later are not run, and the summary names their files.

`.ci/run` has a fixed time, and machines differ in speed by two and more: on a slow one, the shortest of the slow tests,
which come last, are left out, and everybody can see which.
"""

import time
from collections import Counter

import pytest

OPTION = "--start-within"
LATE = f"not run: it would have begun later than {OPTION} allows"
BEGAN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(OPTION, type=float, metavar="SECONDS", help="do not run tests that would begin later than this")


def pytest_configure(config: pytest.Config) -> None:
    """Note when this process began; those of xdist begin when pytest does."""
    config.stash[BEGAN] = time.monotonic()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test, before its fixtures are made, if it is late."""
    limit = item.config.getoption(OPTION)
    if limit is not None and time.monotonic() - item.config.stash[BEGAN] > limit:
        pytest.skip(LATE)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the files whose tests were not run."""
    skipped = terminalreporter.stats.get("skipped", ())
    late = Counter(report.nodeid.partition("::")[0] for report in skipped if LATE in str(report.longrepr))
    if late:
        terminalreporter.section(f"NOT RUN: {sum(late.values())} tests, since the time was over", red=True)
        for file, number in sorted(late.items()):
            terminalreporter.write_line(f"{number:5} {file}")
