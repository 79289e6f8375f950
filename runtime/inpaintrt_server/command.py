"""`inpaintrt serve`: the server as a command. Nothing of the extra `serve` is imported before it runs."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from inpaintrt.errors import ParameterError

if TYPE_CHECKING:
    from inpaintrt_server.settings import ServerSettings

__all__ = ["register", "serve"]

_log = logging.getLogger("inpaintrt.server")


class _ServeCommand(click.Command):
    """Makes its options of the server's settings, when they are asked for."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from inpaintrt_server.options import setting_options

        return [*super().get_params(ctx), *setting_options()]


@click.command(cls=_ServeCommand)
@click.argument("bundle")
def serve(bundle: str, **given: object) -> None:
    """Serve BUNDLE, a name or a path, over HTTP.

    Every option is an environment variable as well: --max-body is INPAINTRT_MAX_BODY. The first SIGTERM lets
    running requests finish, the second stops at once; SIGHUP reads the API keys again. The exit status is 0
    after all requests were finished, 1 if some were cut off, and 3 if the engine is lost.
    """
    from inpaintrt_server.settings import current_settings, read_settings

    named, notes = current_settings({name: value for name, value in given.items() if value not in (None, ())})
    settings = read_settings(named)
    check_exposure(settings)
    # Of 1.1 s from SIGTERM to the end, taking the interpreter apart took 0.85. Nothing is left to be written.
    os._exit(_run(bundle, settings, notes))


def check_exposure(settings: ServerSettings) -> None:
    """Refuse to serve others than this machine without keys.

    Raises:
        ParameterError: There are no keys, the address is not loopback, and `insecure` is not set.
    """
    from inpaintrt_server.http.gate import is_loopback

    if settings.api_key_file is None and not settings.insecure and not is_loopback(settings.host):
        raise ParameterError(
            "without API keys the server listens on this machine's own addresses only",
            received=f"--host {settings.host}",
            expected="--host 127.0.0.1, or --api-key-file",
            hint="--insecure serves everybody who can reach that address",
        )


def _run(bundle: str, settings: ServerSettings, notes: Sequence[str]) -> int:
    from inpaintrt.loading import load_bundle
    from inpaintrt_server.application import make_application
    from inpaintrt_server.batching.service import BatchingService
    from inpaintrt_server.host_memory import return_freed_memory
    from inpaintrt_server.http.keys import KeyRing
    from inpaintrt_server.http.metrics import Metrics
    from inpaintrt_server.logs import json_logging
    from inpaintrt_server.serving import Server, bound_socket

    if hasattr(signal, "SIGHUP"):
        signal.signal(
            signal.SIGHUP, signal.SIG_IGN
        )  # It would end the process until the server listens to it.
    keys = KeyRing(settings.api_key_file)
    with bound_socket(settings.host, settings.port) as listener, json_logging() as keep_logging:
        for note in notes:
            _log.warning(note)
        loaded = load_bundle(
            bundle,
            backend=settings.backend,
            verify=settings.verify,
            backend_options=settings.backend_options,
        )
        return_freed_memory()
        metrics = Metrics(tuple(settings.lora))
        service = BatchingService(loaded, settings.batching, loras=settings.lora, observer=metrics)
        keep_logging()
        server = Server(make_application(service, settings, keys=keys, metrics=metrics))
        service.start()
        server.run([listener])
        service.close()
        service.stages.close()
    return server.status


def register(app: click.Group) -> None:
    """Add the command to `inpaintrt`."""
    app.add_command(serve)
