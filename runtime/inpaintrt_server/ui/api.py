"""The paths of the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeAlias

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from inpaintrt_server.http.api import Api
from inpaintrt_server.ui.files import StaticFile, load_files

__all__ = ["PATH", "make_api"]

PATH = "/ui"
"""Where the page is."""

_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "img-src 'self' blob: data:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def make_api() -> Api:
    """The page, whose files need no key since they hold no secret; what it asks the server for does."""
    router = APIRouter()
    # Relative addresses, so that the page works below a path prefix of a proxy as well.
    router.add_route("/", _redirect(f".{PATH}/"), include_in_schema=False)
    router.add_route(PATH, _redirect(f".{PATH}/"), include_in_schema=False)
    for name, file in load_files().items():
        router.add_route(f"{PATH}/{name}", _serve(file), include_in_schema=False)
    return Api("ui", ("/", PATH), router, open=True)


def _redirect(target: str) -> _Endpoint:
    async def redirect(_: Request) -> Response:
        return Response(status_code=HTTPStatus.TEMPORARY_REDIRECT, headers={**_HEADERS, "Location": target})

    return redirect


def _serve(file: StaticFile) -> _Endpoint:
    headers = {**_HEADERS, "ETag": file.etag}

    async def serve(request: Request) -> Response:
        if _is_current(file, request.headers.get("if-none-match", "")):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    return serve


def _is_current(file: StaticFile, known: str) -> bool:
    """Whether `If-None-Match` names the content; a proxy that compresses makes its tag a weak one."""
    tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
    return not tags.isdisjoint((file.etag, "*"))
