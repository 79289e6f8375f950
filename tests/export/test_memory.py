"""Peaks of memory are seen, and forgotten when asked."""

import sys

import numpy as np
import pytest

from inpaintrt_bench.processes import run_alone
from inpaintrt_export.memory import forget_peak, peak_bytes, resident_bytes

BLOCK = 100_000_000


def _peaks() -> tuple[int, int | None, int | None]:
    before = resident_bytes()
    block = np.ones(BLOCK, np.uint8)
    del block
    with_block = peak_bytes()
    forget_peak()
    return before, with_block, peak_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells peaks of memory")
def test_a_peak_is_seen_and_forgotten() -> None:
    before, with_block, afterwards = run_alone(_peaks)
    assert with_block is not None
    assert afterwards is not None
    assert with_block > before + 0.9 * BLOCK
    assert afterwards < with_block - 0.9 * BLOCK
