"""The page at `/ui`, where people paint a mask over an image and see the result.

It is static files: a client of `/info` and `POST /v1/inpaint` in the browser, so it has no state, limits or
rights of its own.
"""

from __future__ import annotations

from inpaintrt_server.ui.api import PATH, make_api
from inpaintrt_server.ui.files import StaticFile, load_files

__all__ = ["PATH", "StaticFile", "load_files", "make_api"]
