"""A runner that paints in no time, and fails in the way that its options ask for.

It runs in the process that is measured: the harness drives it through the very pipes of real runners.
"""

import os
import sys
import time

import numpy as np

from inpaintrt_bench.workers.messages import Case, Outcome, Source

__all__ = ["OddRunner", "make_runner"]


class OddRunner:
    """Options: `fails` ("prepare", "start", "run"), `dies` (number of a run), `hangs`, `shade`, `side`."""

    def __init__(self) -> None:
        self._options: dict[str, object] = {}
        self._runs = 0

    def prepare(self, source: Source) -> None:
        if source.options.get("fails") == "prepare":
            raise RuntimeError("this library\nis not for this machine")

    def start(self, source: Source) -> None:
        self._options = source.options
        sys.stdout.write("what libraries print must not disturb the answers\n")
        if self._options.get("fails") == "start":
            raise RuntimeError("the checkpoint\nis not to my taste")

    def run(self, case: Case) -> Outcome:
        self._runs += 1
        if self._options.get("fails") == "run":
            raise RuntimeError("out of ideas")
        if self._options.get("dies") == self._runs:
            sys.stderr.write("last words\n")
            sys.stderr.flush()
            os._exit(3)
        if self._options.get("hangs"):
            time.sleep(600)
        shade, side = int(str(self._options.get("shade", 0))), int(str(self._options.get("side", 16)))
        images = np.random.default_rng(case.seed).integers(0, 200, (case.batch, side, side, 3)) + shade
        return Outcome(
            images=images.astype(np.uint8),
            total=2.0,
            steps=(0.25, 0.5),
            stages={"prepare": 0.125, "denoise": 0.75},
        )

    def close(self) -> None:
        self._options = {}


def make_runner() -> OddRunner:
    return OddRunner()
