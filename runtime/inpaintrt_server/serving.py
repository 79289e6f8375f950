"""uvicorn with our signals: the first asks the server to finish, the second stops it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from inpaintrt.errors import ParameterError
from inpaintrt_server.http.protocol import patient_protocol

if TYPE_CHECKING:
    from fastapi import FastAPI

    from inpaintrt_server.http.context import Context

__all__ = ["ENGINE_LOST", "STOPPED_EARLY", "Server", "bound_socket", "server_config"]

STOPPED_EARLY = 1
"""Exit status: requests were cut off, by a second signal or because they took too long."""

ENGINE_LOST = 3
"""Exit status: the engine failed for good; a supervisor should start the process again."""

_SECONDS_FOR_LAST_ANSWERS = 10
_STOPPED = b'{"level": "warning", "logger": "inpaintrt.server", "message": "stopped by a second signal"}\n'
_log = logging.getLogger("inpaintrt.server")


def server_config(application: FastAPI) -> uvicorn.Config:
    """How uvicorn serves an application made by `make_application`."""
    context: Context = application.state.context
    settings = context.settings
    return uvicorn.Config(
        application,
        http=patient_protocol(context),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.forwarded_allow_ips),
        forwarded_allow_ips=list(settings.forwarded_allow_ips),
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=_SECONDS_FOR_LAST_ANSWERS,
    )


class Server(uvicorn.Server):
    """Serves an application made by `make_application` until a signal or the loss of the engine.

    SIGTERM or SIGINT: new requests get 503, running ones finish, and the server ends with status 0. A second
    one ends the process at once with `STOPPED_EARLY`; so ends a server whose requests take longer than
    `drain_timeout`.
    SIGHUP: the file of API keys is read again; a bad one changes nothing.

    Args:
        application: What to serve; its service is running.

    Attributes:
        status: The exit status, once the server has ended.
    """

    def __init__(self, application: FastAPI) -> None:
        super().__init__(server_config(application))
        self._context: Context = application.state.context
        self._asked_to_end = False
        self._hangups = 0
        self._drains_until: float | None = None
        self._announced = False
        self.status = 0
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._handle_hangup)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the first signal, for `on_tick` to act on; end the process at the second.

        A signal interrupts the loop anywhere, so nothing that takes a lock may be called here. Leaving as
        usual would wait for the engine's present step, and nothing is lost: every line of the log is flushed.
        """
        del sig, frame
        if self._asked_to_end:
            os.write(sys.stderr.fileno(), _STOPPED)
            os._exit(STOPPED_EARLY)
        self._asked_to_end = True

    def _handle_hangup(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        self._hangups += 1

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        for listener in sockets or ():
            _log.info("listening", extra={"fields": {"url": _url(listener)}})

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: act on signals and on what became of the service; True to end."""
        self._reload_keys()
        now = self._context.service.snapshot
        if now.ready and not self._announced:
            self._announced = True
            _log.info("ready")
        if now.engine_lost:
            self.status = ENGINE_LOST
            _log.critical("the engine is lost, so the server ends")
            return True
        if self._asked_to_end and await self._drain():
            return True
        return await super().on_tick(counter)

    def _reload_keys(self) -> None:
        if not self._hangups:
            return
        self._hangups = 0
        try:
            self._context.keys.reload()
        except ParameterError as error:
            _log.error("the API keys stay as they were: %s", error)
        else:
            _log.info("API keys read again", extra={"fields": {"keys": len(self._context.keys)}})

    async def _drain(self) -> bool:
        """Whether all running requests are done, or had to be cut off."""
        service, patience = self._context.service, self._context.settings.drain_timeout
        if self._drains_until is None:
            self._drains_until = time.monotonic() + patience
            service.drain()
            _log.info("draining", extra={"fields": {"requests": service.snapshot.outstanding}})
        if service.wait_drained(0):
            return True
        if time.monotonic() < self._drains_until:
            return False
        _log.warning("requests are cut off, since they took longer than %g s", patience)
        self.status = STOPPED_EARLY
        await asyncio.to_thread(service.close)
        return True


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that is bound, but not listening yet.

    Raises:
        ParameterError: The address is not this machine's, or is taken.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ParameterError(
            "the server cannot listen there",
            received=f"{host}, port {port}: {error.strerror}",
            expected="an address of this machine, and a free port",
            hint="--host and --port choose others",
        ) from error
    return listener
