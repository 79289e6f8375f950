"""Services for one test each, closed when it is over."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from inpaintrt.loading import LoadedBundle
from inpaintrt_server.batching import BatchingService, BatchingSettings, LoraFiles

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
