"""A real browser in front of the real page."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, Request, expect, sync_playwright

from inpaintrt_server.ui import PATH

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_PATIENCE = 30_000

Visit = Callable[..., Page]


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


class _Witness:
    """What a page must never do: fail, break its policy, or ask anybody but its own server.

    Args:
        page: The page.
        address: Of its server.
        refusals: Whether the test makes the server refuse requests, which the browser notes on its console.
    """

    def __init__(self, page: Page, address: str, *, refusals: bool) -> None:
        self._page = page
        self._own = (f"{address}/", f"blob:{address}/", "data:")
        self._refusals = refusals
        self._complaints: list[str] = []
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self._complaints.append(str(error)))
        page.on("request", self._look)

    def _hear(self, kind: str, text: str) -> None:
        refused = self._refusals and text.startswith("Failed to load resource")
        if kind in ("error", "warning") and not refused:
            self._complaints.append(text)

    def _look(self, request: Request) -> None:
        if not request.url.startswith(self._own):
            self._complaints.append(f"a request to {request.url}")

    def check(self) -> None:
        assert self._complaints == []


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens the page of a server for somebody who was never there before.

    Pages are closed, and checked by their witnesses, when the test is over.
    """
    with ExitStack() as visitors:

        def open_page(address: str, *, refusals: bool = False, **options: Any) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
            visitors.callback(context.close)
            context.set_default_timeout(_PATIENCE)
            page = context.new_page()
            witness = _Witness(page, address, refusals=refusals)
            visitors.callback(witness.check)
            page.goto(f"{address}{PATH}/")
            page.locator("#checkpoint:not(:empty), #alert:not(:empty)").wait_for()
            return page

        yield open_page


@pytest.fixture
def page(visit: Visit, server: str) -> Page:
    """The page of `server`."""
    return visit(server)
