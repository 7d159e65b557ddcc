import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import skvae

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_is_the_installed_one():
    assert skvae.__version__ == version("skvae")


def test_the_test_extra_and_the_test_group_are_one_list(pyproject):
    extras = pyproject["project"]["optional-dependencies"]
    assert extras["test"] == pyproject["dependency-groups"]["test"]


def test_no_extra_brings_a_peer_which_has_an_environment_of_its_own(pyproject):
    peers = tomllib.loads((ROOT / "benchmarks" / "peers.toml").read_text(encoding="utf-8"))
    peers = {*peers, "ctgan", "mostlyai-engine"}
    extras = pyproject["project"]["optional-dependencies"].values()
    brought = {re.match(r"[\w-]+", package)[0] for extra in extras for package in extra}
    assert {"xgboost", "pyarrow"} <= brought
    assert not brought & peers


def test_every_extra_is_in_the_guide(pyproject):
    guide = (ROOT / "docs" / "installation.rst").read_text(encoding="utf-8")
    shown = set(re.findall(r"^``(\w+)``$", guide, flags=re.MULTILINE))
    assert shown == set(pyproject["project"]["optional-dependencies"])


@pytest.mark.slow
def test_the_wheel_carries_the_data_the_types_and_the_licences(tmp_path):
    # Built from a copy: a build leaves folders beside its sources.
    source = tmp_path / "source"
    shutil.copytree(ROOT / "skvae", source / "skvae")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "skvae/py.typed",
        "skvae/datasets/data/adult.csv.gz",
        "skvae/datasets/data/README.md",
        "skvae/presets/tvae_synthesizer/paper.json",
    ):
        assert needed in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
