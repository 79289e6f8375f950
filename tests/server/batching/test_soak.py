"""Hundreds of requests, some given up, some late, some wrong: nothing is left behind."""

import gc
import threading
import time
from collections import Counter
from typing import Any

import numpy as np

from inpaintrt.loading import LoadedBundle
from inpaintrt_server.batching import (
    BatchingService,
    BatchingSettings,
    Failed,
    Finished,
    NullObserver,
)
from inpaintrt_server.batching.events import Outcome
from inpaintrt_server.batching.task import Task
from inpaintrt_server.errors import QueueFullError
from server.batching.tools import Ear, ask, hand_in
from server.conftest import wait_until


class Endings(NullObserver):
    def __init__(self) -> None:
        self.heard: Counter[Outcome] = Counter()
        self._lock = threading.Lock()

    def ended(self, how: Outcome) -> None:
        with self._lock:
            self.heard[how] += 1


def _hand_in_any(service: BatchingService, random: np.random.Generator, ear: Ear) -> bool:
    """Hand a request in that ends in one of many ways; whether its listener hears the end."""
    kind = int(random.integers(0, 10))
    options: dict[str, Any] = {
        "num_inference_steps": int(random.integers(1, 4)),
        "scheduler": "euler_a",
        "size": (64, 64) if kind % 2 else (72, 64),
        "num_images_per_prompt": int(random.integers(1, 3)),
    }
    if kind == 0:
        options["latents"] = np.zeros((1, 1, 1, 1), np.float32)
    job = hand_in(
        service, ask(**options), ear, job_id="soak", deadline=time.monotonic() - 1 if kind == 1 else None
    )
    if kind == 2:
        job.cancel()
    return kind != 2


def _count_ends(service: BatchingService, requests: int) -> tuple[Counter[type], int]:
    """Hand requests in as fast as they are taken; how those ended that were not cancelled, and refusals."""
    random = np.random.default_rng(0)
    ears: list[Ear] = []
    refused = 0
    while requests:
        ear = Ear()
        try:
            if _hand_in_any(service, random, ear):
                ears.append(ear)
            requests -= 1
        except QueueFullError:
            refused += 1
            wait_until(lambda: service.snapshot.outstanding < service.snapshot.capacity)
    return Counter(type(ear.last()) for ear in ears), refused


def test_hundreds_of_requests_leave_nothing_behind(demo: LoadedBundle) -> None:
    endings = Endings()
    threads = set(threading.enumerate())
    with BatchingService(demo, BatchingSettings(slots=4, queue=8), observer=endings) as service:
        ends, refused = _count_ends(service, 150)
        wait_until(lambda: service.snapshot.outstanding == 0)
        wait_until(lambda: service.snapshot.active == service.snapshot.groups == service.snapshot.queued == 0)
        assert refused > 0
        assert endings.heard["finished"] == ends[Finished] > 75
        assert endings.heard["failed"] == ends[Failed] > 15
        assert endings.heard["cancelled"] == 150 - ends.total() > 5
        gc.collect()
        left = [thing for thing in gc.get_objects() if type(thing) is Task and thing.id == "soak"]
        assert left == []
    assert set(threading.enumerate()) == threads
