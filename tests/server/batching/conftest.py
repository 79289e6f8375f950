"""Services for one test each, closed when it is over."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from PIL import Image

from inpaintrt import InpaintPipeline
from inpaintrt.loading import LoadedBundle
from inpaintrt_server.batching import BatchingService, BatchingSettings, LoraFiles
from server.batching.lora_tools import SCALES, Alone, Weights
from server.batching.tools import ask
from server.loras import LoraPaths

MakeService = Callable[..., BatchingService]


@pytest.fixture
def make_service(demo: LoadedBundle) -> Iterator[MakeService]:
    """Starts services on the demo bundle, or on another."""
    with ExitStack() as services:

        def make(
            loaded: LoadedBundle = demo,
            *,
            loras: LoraFiles | None = None,
            observer: Any = None,
            **settings: Any,
        ) -> BatchingService:
            service = BatchingService(loaded, BatchingSettings(**settings), loras=loras, observer=observer)
            return services.enter_context(service)

        yield make


@pytest.fixture
def lora_files(lora_paths: LoraPaths) -> LoraFiles:
    """LoRAs of the demo as a service is given them."""
    return {name: ((str(getattr(lora_paths, name)), scale),) for name, scale in SCALES.items()}


@pytest.fixture(scope="module")
def alone(lora_paths: LoraPaths) -> Alone:
    """What the pipeline paints when it was opened with these LoRAs; each image is painted once."""
    painted: dict[tuple[tuple[str, float], ...], Image.Image] = {}

    def paint(weights: Weights) -> Image.Image:
        key = tuple(weights.items())
        if key not in painted:
            loras = [(getattr(lora_paths, name), SCALES[name] * weight) for name, weight in key]
            request = ask()
            with InpaintPipeline.from_bundle("demo", loras=loras, threads=1) as pipe:
                inputs: Any = (request.prompts[0], request.images[0], request.masks[0])
                output = pipe(*inputs, **request.options)
            assert isinstance(output.images, list)
            painted[key] = output.images[0]
        return painted[key]

    return paint
