"""The application: every interface around one batching service."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from inpaintrt_server import ui
from inpaintrt_server.apis import health, inpaint, openai, webui
from inpaintrt_server.http.access import AccessLayer
from inpaintrt_server.http.api import Api
from inpaintrt_server.http.connections import ConnectionLayer, Connections
from inpaintrt_server.http.context import Context
from inpaintrt_server.http.gate import Gate
from inpaintrt_server.http.keys import KeyRing
from inpaintrt_server.http.limits import BodyLayer, BodyLimits
from inpaintrt_server.http.metrics import Metrics
from inpaintrt_server.http.wellformed import WellFormedLayer
from inpaintrt_server.settings import ServerSettings

if TYPE_CHECKING:
    from inpaintrt_server.batching.service import BatchingService

__all__ = ["make_application"]


def make_application(
    service: BatchingService,
    settings: ServerSettings,
    *,
    keys: KeyRing | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """Every interface around one batching service, which the caller starts and stops.

    Args:
        service: Runs requests.
        settings: Every option.
        keys: Who may enter; by default those of the file that the settings name.
        metrics: What the service's observer counts in; by default figures of the HTTP side alone.

    Raises:
        ParameterError: The file of API keys cannot be used.
    """
    keys = KeyRing(settings.api_key_file) if keys is None else keys
    metrics = Metrics() if metrics is None else metrics
    metrics.watch(lambda: service.snapshot)
    apis = _make_apis(settings)
    application = FastAPI(title="inpaintrt", version=version("inpaintrt"), docs_url=None, redoc_url=None)
    # A redirect to the same path without its last slash would lead to whatever host the client named.
    application.router.redirect_slashes = False
    connections = Connections(settings.max_connections)
    application.state.context = Context(service, settings, keys, metrics, apis, connections)
    for api in apis:
        application.include_router(api.router)
    for kind in (HTTPException, RequestValidationError):
        application.add_exception_handler(kind, _hand_out)
    # From the innermost to the outermost.
    application.add_middleware(
        BodyLayer, limits=BodyLimits(settings.max_body, settings.body_timeout, settings.min_rate)
    )
    application.add_middleware(Gate, keys=keys, trust_everybody=settings.insecure)
    application.add_middleware(ConnectionLayer, connections=connections)
    application.add_middleware(WellFormedLayer)
    application.add_middleware(AccessLayer, apis=apis, metrics=metrics)
    return application


def _make_apis(settings: ServerSettings) -> Sequence[Api]:
    return (
        # Before the paths of health, whose OPTIONS / would else be all that a refusal of POST / names.
        *((ui.make_api(),) if settings.ui else ()),
        *health.make_apis(settings),
        inpaint.make_api(settings),
        openai.make_api(settings),
        webui.make_api(settings),
    )


async def _hand_out(_: Request, error: Exception) -> Response:
    """Let the outermost layer answer: it knows the interface and keeps the log."""
    raise error
