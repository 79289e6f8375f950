"""What tests of the service with LoRAs need beside those of others."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from PIL import Image

from inpaintrt.loading import LoadedBundle
from inpaintrt_server.batching import BatchingService, LoraFiles, NullObserver
from inpaintrt_server.batching.loras import LoraLibrary
from server.batching.tools import Ear, ask, hand_in

__all__ = ["SCALES", "Alone", "Gate", "Recorder", "Weights", "paint", "room_for", "submit"]

Weights = Mapping[str, float]
Alone = Callable[[Weights], Image.Image]

SCALES = {"style": 0.8, "detail": 1.0, "words": -0.5}


class Recorder(NullObserver):
    """What happens to models, and how many rows each step has."""

    def __init__(self) -> None:
        self.happened: list[tuple[str, tuple[str, ...]]] = []
        self.rows: list[int] = []
        self.hits: list[bool] = []

    def chosen(self, loras: Sequence[str]) -> None:
        self.happened.append(("chosen", tuple(loras)))

    def loaded(self, loras: Sequence[str], seconds: float) -> None:
        assert seconds > 0
        self.happened.append(("loaded", tuple(loras)))

    def dropped(self, loras: Sequence[str]) -> None:
        self.happened.append(("dropped", tuple(loras)))

    def step(self, seconds: float, rows: int, bucket: int) -> None:
        self.rows.append(rows)

    def cache(self, name: str, *, hit: bool) -> None:
        if name == "prompts":
            self.hits.append(hit)


def submit(service: BatchingService, weights: Weights, **options: Any) -> Ear:
    ear = Ear()
    given = {name: options.pop(name) for name in ("deadline",) if name in options}
    hand_in(service, ask(**options), ear, loras=service.loras.choose(weights), **given)
    return ear


def paint(service: BatchingService, weights: Weights, **options: Any) -> Image.Image:
    return submit(service, weights, **options).finished().images[0]


def room_for(count: int, demo: LoadedBundle, files: LoraFiles) -> int:
    """Bytes for so many of the LoRAs that change the UNet alone."""
    library = LoraLibrary(demo, files)
    return count * library.nbytes(library.choose_one("style"))


class Gate:
    """Holds up every loading of LoRAs until it is opened."""

    def __init__(self, service: BatchingService, monkeypatch: pytest.MonkeyPatch) -> None:
        load = service.loras.load
        self.arrived = threading.Semaphore(0)
        self.opened = threading.Event()

        def wait(choice: Any) -> LoadedBundle:
            self.arrived.release()
            assert self.opened.wait(60)
            return load(choice)

        monkeypatch.setattr(service.loras, "load", wait)
