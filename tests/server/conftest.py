"""A real service on the demo bundle, a real application around it, and a real server on a free port."""

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService, BatchingSettings
from inpaintrt_server.http.metrics import Metrics
from inpaintrt_server.logs import JsonFormatter
from inpaintrt_server.serving import server_config
from inpaintrt_server.settings import ServerSettings
from server.loras import LoraPaths, make_loras

Serve = Callable[[FastAPI], str]


class Logged:
    """What the server logs, as JSON lines."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def lines(self, **wanted: object) -> list[dict[str, Any]]:
        """Lines with these values."""
        found = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in found if all(line.get(name) == value for name, value in wanted.items())]

    def only(self, **wanted: object) -> dict[str, Any]:
        """The one line with these values, once it is written."""
        wait_until(lambda: bool(self.lines(**wanted)))
        (line,) = self.lines(**wanted)
        return line


@pytest.fixture
def log() -> Iterator[Logged]:
    """What is logged while a test runs."""
    logged = Logged()
    handler = logging.StreamHandler(logged.stream)
    handler.setFormatter(JsonFormatter())
    loggers = [logging.getLogger(name) for name in ("inpaintrt.access", "inpaintrt.server")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield logged
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings come from tests alone."""
    for field in ServerSettings.model_fields:
        monkeypatch.delenv(f"INPAINTRT_{field.upper()}", raising=False)


@pytest.fixture(scope="session")
def demo() -> LoadedBundle:
    """The demo bundle, loaded once."""
    return load_bundle("demo", backend_options={"threads": 1})


@pytest.fixture(scope="session")
def lora_paths(tmp_path_factory: pytest.TempPathFactory) -> LoraPaths:
    """LoRA files for the demo bundle."""
    return make_loras(tmp_path_factory.mktemp("loras"))


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    """What `service` counts in."""
    return Metrics()


@pytest.fixture(scope="session")
def service(demo: LoadedBundle, metrics: Metrics) -> Iterator[BatchingService]:
    """A running service on the demo bundle; a test that drains or breaks one makes its own."""
    with BatchingService(demo, BatchingSettings(slots=4, queue=16), observer=metrics) as running:
        wait_until(lambda: running.snapshot.ready)
        yield running


@pytest.fixture(scope="session")
def settings() -> ServerSettings:
    """Defaults, whatever the environment says."""
    return ServerSettings()


@pytest.fixture(scope="session")
def application(service: BatchingService, settings: ServerSettings) -> FastAPI:
    """Every interface around `service`; without keys, so it answers under this machine's names only."""
    return make_application(service, settings)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves applications on free ports until the test is over; gives their addresses."""
    with ExitStack() as servers:
        yield lambda application: servers.enter_context(serving(application))


@pytest.fixture(scope="session")
def server(application: FastAPI) -> Iterator[str]:
    """The address of a real server of `application`."""
    with serving(application) as address:
        yield address


@contextmanager
def serving(application: FastAPI) -> Iterator[str]:
    """Serve in a thread, on a free port; gives the address."""
    config = server_config(application)
    config.port = 0
    server = uvicorn.Server(config)
    application.state.server = server  # for tests that look at its connections
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that happens soon."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.005)
