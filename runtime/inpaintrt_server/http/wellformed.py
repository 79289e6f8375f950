"""What of a request's headers h11 takes and we do not."""

from __future__ import annotations

import ipaddress
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from inpaintrt_server.http.refusals import MalformedRequestError

__all__ = ["WellFormedLayer", "host_name"]

_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]*))(?::[0-9]{0,5})?")


class WellFormedLayer:
    """Refuses requests that another program, such as a proxy, may read in another way, and serves HEAD.

    HEAD is served as GET; uvicorn leaves out the answer's body.

    Args:
        app: The application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request.

        Raises:
            MalformedRequestError: The end of the body or the host is not certain.
        """
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            _check_framing(headers, scope["http_version"])
            host_name(headers)
            if scope["method"] == "HEAD":
                scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


def _check_framing(headers: Headers, version: str) -> None:
    """With two opinions on where a body ends, a second request could hide in it."""
    if "transfer-encoding" not in headers:
        return
    if "content-length" in headers:
        raise MalformedRequestError(
            "the request says in two ways where its body ends",
            received="Content-Length and Transfer-Encoding",
            expected="one of them",
        )
    if version == "1.0":
        raise MalformedRequestError(
            "HTTP/1.0 has no Transfer-Encoding",
            received=f"Transfer-Encoding: {headers['transfer-encoding']}",
            expected="Content-Length, or HTTP/1.1",
        )


def host_name(headers: Headers) -> str:
    """The name or the address in the header Host, without brackets and port; empty where there is no header.

    Raises:
        MalformedRequestError: The header is no host.
    """
    host = headers.get("host", "")
    found = _HOST.fullmatch(host)
    if found is None or not _is_address(found["address"]):
        raise MalformedRequestError(
            "the header Host is not a host",
            received=f"Host: {host}",
            expected="a name or an address, and a port",
        )
    return found["address"] or found["name"] or ""


def _is_address(text: str | None) -> bool:
    if text is None:
        return True
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False
