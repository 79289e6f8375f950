"""What the machine has of memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from inpaintrt_server.host_memory import available_bytes, return_freed_memory


def _machine(root: Path, *, free: str = "MemAvailable:    4096 kB", limit: str | None = None) -> Path:
    (root / "proc").mkdir()
    (root / "proc" / "meminfo").write_text(f"MemTotal:     16384 kB\nMemFree:       1024 kB\n{free}\n")
    if limit is not None:
        group = root / "sys" / "fs" / "cgroup"
        group.mkdir(parents=True)
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text("1048576\n")
    return root


def test_it_is_what_the_kernel_says(tmp_path: Path) -> None:
    assert available_bytes(_machine(tmp_path)) == 4096 * 1024


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max", 4096 * 1024), ("3145728", 2097152), ("8589934592", 4096 * 1024), ("1", 0)],
)
def test_a_container_has_what_its_limit_leaves(tmp_path: Path, limit: str, expected: int) -> None:
    assert available_bytes(_machine(tmp_path, limit=limit)) == expected


def test_without_an_estimate_it_is_all_of_the_machine(tmp_path: Path) -> None:
    everything = available_bytes(tmp_path)
    assert everything is not None
    assert everything >= (available_bytes() or 0)
    assert available_bytes(_machine(tmp_path, free="")) == everything


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_arrays_go_back_to_the_system() -> None:
    code = """
import numpy as np
from pathlib import Path
from inpaintrt_server.host_memory import return_freed_memory
import sys
if sys.argv[1] == "yes":
    return_freed_memory()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
np.ones(4_000_000, np.uint8)  # from now on glibc keeps arrays of this size, unless told otherwise
before = resident()
arrays = [np.ones(3_000_000, np.uint8) for _ in range(40)]
last = np.ones(1000, np.uint8).tobytes()
del arrays[:-1]
print(resident() - before)
"""
    kept = {
        given: int(
            subprocess.run(
                [sys.executable, "-c", code, given], capture_output=True, text=True, check=True
            ).stdout
        )
        for given in ("yes", "no")
    }
    assert kept["yes"] < 8_000_000 < 80_000_000 < kept["no"]


def test_it_may_be_asked_for_again() -> None:
    return_freed_memory()
    return_freed_memory()
