"""A mistake on the command line gives one message, and the page is not served."""

import socket
import subprocess
import sys

import httpx
import pytest

from remind.errors import UserError
from remind_server.dashboard.command import dashboard_command
from tests.dashboard.browser import serving


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trusted_header": "X-User"}, "must be given together"),
        ({"trusted_header": "X-User", "trusted_proxy": "hospital"}, "--trusted-proxy"),
        ({"tls_key": "key.pem"}, "must be given together"),
        ({"min_count": 0}, "must be at least 1, which shows everything"),
        ({"store": "mysql://x/y"}, "not supported"),
        ({"host": "203.0.113.1"}, "cannot listen"),
    ],
)
def test_mistakes(tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        dashboard_command(results=tmp_path, **{"port": 0} | options)


@pytest.mark.parametrize("option", ["results", "store"])
def test_a_folder_that_is_not_there_is_not_made(tmp_path, option):
    absent = tmp_path / "absnet"
    given = {"results": absent} if option == "results" else {"results": tmp_path, "store": str(absent / "runs.db")}
    with pytest.raises(UserError, match="no such folder"):
        dashboard_command(port=0, **given)
    assert not absent.exists()


def test_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="cannot listen"):
        dashboard_command(results=tmp_path, port=taken.getsockname()[1])


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_the_printed_address_opens_in_a_browser(tmp_path, host):
    with serving(tmp_path, "--host", host) as server:
        assert server.root == f"http://{'localhost' if host == '0.0.0.0' else host}:{server.port}"
        assert httpx.get(f"{server.root}/health").text == "ok\n"


def test_it_is_a_command_of_remind():
    done = subprocess.run(
        [sys.executable, "-m", "remind.cli", "dashboard", "--port", "99999"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "99999" in done.stderr
    assert "Traceback" not in done.stderr
