"""A real browser in front of the real page."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.settings import ServerSettings
from inpaintrt_server.ui import PATH, mount_page
from server.conftest import Serve, serving

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_PATIENCE = 120_000

Visit = Callable[..., Page]


@pytest.fixture(scope="session")
def page_application(service: BatchingService, settings: ServerSettings) -> FastAPI:
    """The application with its page."""
    application = make_application(service, settings)
    mount_page(application, service, settings)
    return application


@pytest.fixture(scope="session")
def page_server(page_application: FastAPI) -> Iterator[str]:
    """The address of a server with a page."""
    with serving(page_application) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a window: the system's, or the one that Playwright brings.

    Playwright keeps an event loop running in this thread, so nothing else of the module may start one.
    """
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=_find(playwright), args=list(_ARGUMENTS))
        yield running
        running.close()


def _find(playwright: Playwright) -> str:
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    own = playwright.chromium.executable_path
    if found is None and not Path(own).exists():
        install = [sys.executable, "-m", "playwright", "install", "chromium"]
        result = subprocess.run(install, capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.fail(
                f"the page's tests need a browser: none of {', '.join(_NAMES)} is on the path, and "
                f"`{' '.join(install[1:])}` failed:\n{result.stderr}"
            )
    return found or own


@pytest.fixture
def visit(browser: Browser, serve: Serve) -> Iterator[Visit]:
    """Opens the page of a server for a visitor who was never there before, and leaves before servers end."""
    with ExitStack() as visitors:

        def open_page(address: str, **options: Any) -> Page:
            context = browser.new_context(viewport={"width": 900, "height": 1200}, **options)
            visitors.callback(context.close)
            context.set_default_timeout(_PATIENCE)
            page = context.new_page()
            page.goto(f"{address}{PATH}/")
            page.wait_for_selector("#editor canvas")
            return page

        yield open_page


@pytest.fixture
def page(visit: Visit, page_server: str) -> Page:
    """The page of `page_server`."""
    return visit(page_server)
