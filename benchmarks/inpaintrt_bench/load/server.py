"""A server in a process of its own, started and stopped by a measurement."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil  # type: ignore[import-untyped]

from inpaintrt.backends import DEFAULT_BACKEND
from inpaintrt.errors import InpaintError

__all__ = ["ServedProcess", "ServerSetup", "ServerStartError"]

_PROGRAM = "from inpaintrt.cli import main; main()"
_START_TIMEOUT = 120.0
_STOP_TIMEOUT = 120.0
_POLL = 0.05
_URL = re.compile(r"http://[0-9.]+:\d+")
_OK = 200


@dataclass(frozen=True)
class ServerSetup:
    """What is served, and on what: the same for the server and for the images that it is compared with.

    Attributes:
        bundle: A name in the engine store, or a path.
        backend: What runs the engines.
        backend_options: What the backend lets its users set, such as "threads=2"; None for nothing.
        options: Further words of the server's command line.
    """

    bundle: str
    backend: str = DEFAULT_BACKEND
    backend_options: str | None = None
    options: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """Words of the server's command line, without the bundle."""
        given = () if self.backend_options is None else ("--backend-options", self.backend_options)
        return ("--backend", self.backend, *given, *self.options)

    def read_backend_options(self) -> Mapping[str, bool | int | str]:
        """The options of the backend by name, as the server reads them.

        Raises:
            ParameterError: They do not look like `threads=2,low_vram=true`.
        """
        from inpaintrt_server.settings import read_settings  # needs the extra `serve`

        given = {} if self.backend_options is None else {"backend_options": self.backend_options}
        return read_settings(given).backend_options


class ServerStartError(InpaintError):
    """The server did not become ready."""


class ServedProcess:
    """`inpaintrt serve` on a free port of this machine, from entering the context to leaving it.

    Args:
        bundle: A name in the engine store, or a path.
        options: Further words of the command line.
        python: The interpreter whose inpaintrt serves.

    Attributes:
        url: Its base URL.
    """

    def __init__(self, bundle: str, options: Sequence[str] = (), *, python: str = sys.executable) -> None:
        self._command = [python, "-c", _PROGRAM, "serve", bundle, "--port", "0", *options]
        self._log = Path(tempfile.mkdtemp(prefix="inpaintrt-bench-")) / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What the server has written so far."""
        return self._log.read_text(errors="replace")

    @property
    def process(self) -> psutil.Process:
        """The server's process."""
        if self._process is None:
            raise ServerStartError("the server was not started")
        return psutil.Process(self._process.pid)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def resident_bytes(self) -> int:
        """Bytes of the process that are resident."""
        return int(self.process.memory_info().rss)

    def metrics(self) -> dict[str, float]:
        """The figures without labels that `/metrics` shows, by name."""
        from prometheus_client.parser import text_string_to_metric_families  # needs the extra `serve`

        text = httpx.get(f"{self.url}/metrics", timeout=_STOP_TIMEOUT, trust_env=False).text
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if not sample.labels
        }

    def information(self) -> dict[str, Any]:
        """What `/info` says."""
        found: dict[str, Any] = httpx.get(f"{self.url}/info", timeout=_STOP_TIMEOUT, trust_env=False).json()
        return found

    def stop(self) -> int | None:
        """Ask the server to finish what it has and to end; its exit status."""
        if self._process is None:
            return None
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """End the process at once, as the kernel does when memory runs out."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            if not self.alive:
                break
            if self._is_ready():
                return
            time.sleep(_POLL)
        raise ServerStartError(
            "the server did not become ready",
            received=self.log[-2000:] or "no word",
            expected="/readyz to say yes",
        )

    def _is_ready(self) -> bool:
        found = _URL.search(self.log)
        if found is None:
            return False
        self.url = found.group()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5.0, trust_env=False).status_code == _OK
        except httpx.TransportError:
            return False
