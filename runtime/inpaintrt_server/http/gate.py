"""Who may enter: everybody with a key; where there are no keys, this machine's own programs."""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from inpaintrt_server.http.api import Api
from inpaintrt_server.http.keys import KeyRing, given_keys
from inpaintrt_server.http.record import record_of
from inpaintrt_server.http.refusals import ForeignOriginError, UnauthorizedError
from inpaintrt_server.http.wellformed import host_name

__all__ = ["Gate", "is_loopback"]


class Gate:
    """Asks for a key. Without keys it turns away other people's web pages, unless told not to.

    A page from elsewhere can make a browser send requests to this machine, which is how a server that
    trusts everybody on loopback is abused.

    Args:
        app: The application inside.
        keys: The keys.
        trust_everybody: Do not look at `Host` and `Origin` where there are no keys.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing, *, trust_everybody: bool = False) -> None:
        self._app = app
        self._keys = keys
        self._trust_everybody = trust_everybody

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it.

        Raises:
            UnauthorizedError: It brings no key, or a wrong one.
            ForeignOriginError: It comes from a web page of somebody else.
        """
        if scope["type"] == "http":
            self._check(HTTPConnection(scope))
        await self._app(scope, receive, send)

    def _check(self, connection: HTTPConnection) -> None:
        api = record_of(connection).api
        if self._keys.required:
            if not api.open:
                self._check_key(connection.headers)
        elif not self._trust_everybody and not _is_probe(api, connection.headers):
            _check_origin(connection.headers)

    def _check_key(self, headers: Headers) -> None:
        given = given_keys(headers)
        if self._keys.admitted(given) is None:
            raise UnauthorizedError(
                "this server needs an API key",
                received="none" if not given else "a wrong one",
                expected="Authorization: Bearer KEY, X-API-Key: KEY, or basic authentication with it",
            )


def _is_probe(api: Api, headers: Headers) -> bool:
    """Whether this is monitoring that needs no name of the server; a browser always sends one."""
    return api.monitoring and (api.open or ("host" not in headers and "origin" not in headers))


def _check_origin(headers: Headers) -> None:
    host = headers.get("host", "")
    origin = headers.get("origin")
    if not is_loopback(host_name(headers)):
        raise ForeignOriginError(
            "this server has no API keys, so it answers under this machine's own names only",
            received=f"Host: {host}",
            expected="localhost, 127.0.0.1 or [::1]",
            hint="give the server --api-key-file, or --insecure",
        )
    if origin is not None and origin.lower() not in _origins(host):
        raise ForeignOriginError(
            "this server has no API keys, so it does not answer web pages from elsewhere",
            received=f"Origin: {origin}",
            expected=f"its own, {host}",
            hint="give the server --api-key-file, or --insecure",
        )


def _origins(host: str) -> tuple[str, ...]:
    return tuple(f"{scheme}://{host.lower()}" for scheme in ("http", "https"))


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")
