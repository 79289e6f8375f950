"""What tests of the batching service need: listeners, requests, and engines that one can watch or break."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from PIL import Image

from inpaintrt import InpaintPipeline
from inpaintrt.backends import Array, Engine
from inpaintrt.bundle import TensorSpec
from inpaintrt.errors import EngineRunError
from inpaintrt.families import SD, Family
from inpaintrt.loading import LoadedBundle
from inpaintrt.request import Request, Task, make_request
from inpaintrt_server.batching import (
    BatchingService,
    Event,
    Failed,
    Finished,
    Job,
    Started,
    Stepped,
)
from runtime.image_tools import disc_mask, gradient

__all__ = ["Ear", "FailsAt", "Spy", "ask", "hand_in", "paint_alone", "with_engine"]

Watch = Callable[[Mapping[str, Array]], object]
Spoil = Callable[[Mapping[str, Array], dict[str, Array]], dict[str, Array]]

_PATIENCE = 120.0


class Ear:
    """A listener that remembers, and lets tests wait for the last event."""

    def __init__(self, react: Callable[[Event], object] | None = None) -> None:
        self.events: list[Event] = []
        self._react = react
        self._over = threading.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if self._react is not None:
            self._react(event)
        if isinstance(event, Finished | Failed):
            self._over.set()

    @property
    def over(self) -> bool:
        return self._over.is_set()

    @property
    def steps(self) -> list[int]:
        return [event.index for event in self.events if isinstance(event, Stepped)]

    @property
    def started(self) -> list[Started]:
        return [event for event in self.events if isinstance(event, Started)]

    def last(self) -> Finished | Failed:
        assert self._over.wait(_PATIENCE), f"no end after {self.events}"
        event = self.events[-1]
        assert isinstance(event, Finished | Failed)
        return event

    def finished(self) -> Finished:
        event = self.last()
        assert isinstance(event, Finished), event
        return event

    def error(self) -> Exception:
        event = self.last()
        assert isinstance(event, Failed), event
        return event.error


class FailsAt:
    """Raises in one chosen run of an engine, after it was armed."""

    def __init__(self) -> None:
        self.remaining: int | None = None

    def __call__(self, inputs: Mapping[str, Array]) -> None:
        if self.remaining is None:
            return
        self.remaining -= 1
        if self.remaining == 0:
            self.remaining = None
            raise EngineRunError("the device hiccuped", received="a secret address")


class Spy:
    """A real engine; tests see what it is asked, raise in its place, or spoil what it gives."""

    def __init__(self, engine: Engine, watch: Watch, spoil: Spoil | None) -> None:
        self._engine = engine
        self._watch = watch
        self._spoil = spoil

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self._engine.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        return self._engine.outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self._watch(inputs)
        outputs = self._engine.run(inputs)
        return outputs if self._spoil is None else self._spoil(inputs, outputs)

    def close(self) -> None:
        self._engine.close()


def with_engine(
    loaded: LoadedBundle, component: str, watch: Watch, spoil: Spoil | None = None
) -> LoadedBundle:
    """The same bundle with one engine watched."""
    spy = Spy(loaded.engines[component], watch, spoil)
    return replace(loaded, engines={**loaded.engines, component: spy})


def ask(
    prompt: str = "a red balloon",
    *,
    size: tuple[int, int] = (64, 64),
    image_seed: int = 0,
    task: Task = "inpainting",
    family: Family = SD,
    **options: Any,
) -> Request:
    """A request for a small image."""
    image = None if task == "text-to-image" else gradient(*size, seed=image_seed)
    mask = disc_mask(*size) if task == "inpainting" else None
    settings: Any = {"num_inference_steps": 4, "scheduler": "ddim", "seed": 0, **options}
    return make_request(prompt, image, mask, settings, family)


def paint_alone(loaded: LoadedBundle, request: Request) -> list[Image.Image]:
    """What the pipeline makes of a request."""
    image: Any = request.images[0] if request.images else None
    mask = request.masks[0] if request.masks else None
    output = InpaintPipeline(loaded)(str(request.prompts[0]), image, mask, **request.options)
    assert isinstance(output.images, list)
    return output.images


def hand_in(service: BatchingService, request: Request, ear: Ear, **options: Any) -> Job:
    """Admit and submit."""
    return service.submit(service.admit(), request, ear, **{"job_id": "test", **options})
