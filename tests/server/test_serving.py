"""The server around the application, where its engine is gone."""

import dataclasses
import signal
from collections.abc import Iterator, Mapping

import pytest

from inpaintrt.backends import Array, Engine
from inpaintrt.bundle import TensorSpec
from inpaintrt.errors import EngineRunError
from inpaintrt.loading import LoadedBundle
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService, BatchingSettings
from inpaintrt_server.serving import ENGINE_LOST, Server, bound_socket
from inpaintrt_server.settings import ServerSettings


class DeadEngine:
    """An engine whose device is gone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self._engine.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        return self._engine.outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        raise EngineRunError("the device is gone")

    def close(self) -> None:
        """It belongs to the demo, which stays open."""


@pytest.fixture
def same_signals() -> Iterator[None]:
    """Signals do in this process what they did before."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("same_signals")
def test_a_server_whose_engine_is_lost_ends_with_a_status_of_its_own(demo: LoadedBundle) -> None:
    dead = dataclasses.replace(demo, engines={name: DeadEngine(part) for name, part in demo.engines.items()})
    service = BatchingService(dead, BatchingSettings())
    server = Server(make_application(service, ServerSettings()))
    service.start()
    with bound_socket("127.0.0.1", 0) as listener:
        server.run([listener])
    assert server.status == ENGINE_LOST
    service.close()
