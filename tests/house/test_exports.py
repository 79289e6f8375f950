"""What the packages export, and that version and changelog agree."""

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import inpaintrt

ROOT = Path(__file__).parents[2]
MODULES = [
    importlib.import_module(module.name) for module in pkgutil.walk_packages(inpaintrt.__path__, "inpaintrt.")
]


@pytest.mark.parametrize("module", [inpaintrt, *MODULES], ids=lambda module: module.__name__)
def test_all_is_sorted_and_true(module: ModuleType) -> None:
    names = module.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(module, name) for name in names)


def test_every_error_is_drawn_in_the_tree() -> None:
    errors = importlib.import_module("inpaintrt.errors")
    drawn = re.findall(r"(\w+Error)\b", errors.__doc__ or "")
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert sorted(drawn) == sorted(defined) == errors.__all__


def test_changelog_tells_of_this_version() -> None:
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == inpaintrt.__version__
