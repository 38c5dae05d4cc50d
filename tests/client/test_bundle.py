"""The content of a bundle is checked without unpacking it."""

import hashlib
import io
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind_client.policy import bundle as bundle_module
from remind_client.policy.bundle import OURS, BundleError, look
from tests.builders.bundles import PROJECT, fab

ROOT = Path(__file__).parents[2]


def test_a_bundle_of_configuration():
    content = fab({"LICENSE": "", "README.md": "", "presets/more.toml": "", "a.json": ""})
    bundle = look(content)
    assert bundle.sha256 == hashlib.sha256(content).hexdigest()
    assert (bundle.app, bundle.component, bundle.code) == ("someone/app", OURS, ())
    assert bundle.not_configuration() == ""


def test_the_simulation_as_flower_packs_it_is_configuration(tmp_path):
    command: list[str | Path] = [Path(sys.executable).parent / "flwr", "build", "--app", ROOT / "simulation"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    [packed] = tmp_path.glob("*.fab")
    assert look(packed.read_bytes()).not_configuration() == ""


@pytest.mark.parametrize(
    "name", ["a.py", "a.pyc", "a.so", "a.pth", "a.PY", "remind_client/app.py", "x", "a.toml.py", "a.txt", ".toml"]
)
def test_anything_else_is_code(name):
    assert look(fab({name: "x"})).code == (name,)
    assert name in look(fab({name: "x"})).not_configuration()


@pytest.mark.parametrize("component", ["os:system", "remind_client.app:client_app", "remind_client.app:app.x", ""])
def test_a_bundle_without_code_may_name_only_our_app(component):
    assert look(fab(project=PROJECT.replace(f'"{OURS}"', f'"{component}"'))).not_configuration()


@pytest.mark.parametrize("name", ["../a.toml", "/etc/a.toml", "a/../../b.toml", "a\\b.toml"])
def test_files_outside_the_bundle(name):
    with pytest.raises(BundleError, match="outside"):
        look(fab({name: "x"}))


def test_links_doubles_and_too_much():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("pyproject.toml", PROJECT)
        link = zipfile.ZipInfo("a.toml")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(BundleError, match="link"):
        look(out.getvalue())
    with zipfile.ZipFile(out := io.BytesIO(), "w") as archive:
        archive.writestr("pyproject.toml", PROJECT)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("pyproject.toml", PROJECT.replace(OURS, "os:system"))
    with pytest.raises(BundleError, match="twice"):
        look(out.getvalue())
    with pytest.raises(BundleError, match="more than"):
        look(fab({f"{i}.toml": "" for i in range(bundle_module.MOST_FILES)}))


def test_a_bomb_is_not_unpacked():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pyproject.toml", PROJECT + "#" * (bundle_module.MOST_TOML + 1))
    with pytest.raises(BundleError, match="larger"):
        look(out.getvalue())
    with zipfile.ZipFile(out := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pyproject.toml", PROJECT)
        archive.writestr("zeros.json", bytes(bundle_module.MOST_BYTES + 1))
    assert len(out.getvalue()) < 1 << 20
    with pytest.raises(BundleError, match="more than"):
        look(out.getvalue())


@pytest.mark.parametrize("project", ["", "x = ", "[project]\nname = 1", PROJECT.replace("publisher", "other")])
def test_a_project_that_is_none(project):
    with pytest.raises(BundleError, match="pyproject"):
        look(fab(project=project))


@given(st.data())
def test_whatever_comes_it_is_a_bundle_or_a_bundle_error(data):
    content = bytearray(fab({"a.py": "print()"}))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        bundle = look(bytes(content[: data.draw(st.integers(0, len(content)))]))
    except BundleError:
        return
    assert bundle.sha256 != hashlib.sha256(fab({"a.py": "print()"})).hexdigest() or bundle.not_configuration()
