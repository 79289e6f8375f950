"""The page at `/ui`, where people paint a mask with the mouse. Needs the extra `ui`."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from inpaintrt.errors import ParameterError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from inpaintrt_server.batching.service import BatchingService
    from inpaintrt_server.settings import ServerSettings

__all__ = ["PATH", "mount_page"]

PATH = "/ui"
"""Where the page is."""


def mount_page(application: FastAPI, service: BatchingService, settings: ServerSettings) -> None:
    """Add the page to an application, behind the same limits and keys as everything else.

    A browser asks for a key by itself: any user name will do, the password is the key.

    Args:
        application: The server's application.
        service: Runs what the page asks for.
        settings: The server's limits.

    Raises:
        ParameterError: Gradio is not installed.
    """
    try:
        import gradio
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ParameterError(
            "the page at /ui needs Gradio, which is not installed",
            hint="pip install 'inpaintrt[ui]', or start the server with --no-ui",
        ) from error
    from inpaintrt_server.ui.page import THEME, make_page

    async def mount() -> None:
        gradio.mount_gradio_app(
            application,
            make_page(service, settings),
            PATH,
            theme=THEME,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            max_file_size=settings.max_body,
        )

    # Where no event loop runs, Gradio opens several and leaves them open.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, mount()).result()
