"""How many threads share one operator."""

import os
from pathlib import Path

import pytest

from inpaintrt.backends.threads import default_threads, threads_option
from inpaintrt.errors import ParameterError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Eight processors, all of which the process may use."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return monkeypatch


def _container(root: Path, limit: str) -> Path:
    group = root / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text(f"{limit}\n")
    return root


@pytest.mark.usefixtures("machine")
def test_on_a_machine_of_its_own_the_library_decides(tmp_path: Path) -> None:
    assert default_threads(tmp_path) is None


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", None),
        ("900000 100000", None),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("damaged", None),
    ],
)
def test_a_container_has_what_its_limit_allows(tmp_path: Path, limit: str, expected: int | None) -> None:
    assert default_threads(_container(tmp_path, limit)) == expected


def test_a_process_that_is_bound_to_processors_takes_these(
    machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert default_threads(tmp_path) == 3
    assert default_threads(_container(tmp_path, "100000 100000")) == 1


def test_where_nobody_can_tell_the_library_decides(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.delattr(os, "sched_getaffinity", raising=False)
    assert default_threads(tmp_path) is None


@pytest.mark.parametrize(
    ("named", "expected"), [("3", 3), ("3,2", 3), (" 12 ", 12), ("0", None), ("many", None), ("", None)]
)
def test_the_usual_variable_comes_first(
    machine: pytest.MonkeyPatch, tmp_path: Path, named: str, expected: int | None
) -> None:
    machine.setenv("OMP_NUM_THREADS", named)
    assert default_threads(tmp_path) == expected


def test_the_option_comes_before_that(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("OMP_NUM_THREADS", "3")
    assert threads_option({"threads": 5}) == 5
    assert threads_option({"threads": None}) == 3
    with pytest.raises(ParameterError, match=r"(?s)threads.*integer from 1"):
        threads_option({"threads": 0})
