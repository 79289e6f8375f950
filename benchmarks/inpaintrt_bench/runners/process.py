"""A runner in a process of its own, which takes orders through pipes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self

import numpy as np

from inpaintrt.errors import InpaintError
from inpaintrt_bench.workers.messages import Case, Outcome, Source

__all__ = ["RunnerError", "RunnerProcess", "Started"]

_GRACE = 10.0


class RunnerError(InpaintError):
    """A runner cannot start, died, or failed; the message says why in one line."""


class Started:
    """What a runner reports when it is ready.

    Attributes:
        import_seconds: Importing its library.
        start_seconds: Loading the checkpoint.
        versions: Versions of packages in its process.
    """

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.import_seconds: float = answer["import"]
        self.start_seconds: float = answer["start"]
        self.versions: dict[str, str] = answer["versions"]


class RunnerProcess:
    """A process that runs one module of `inpaintrt_bench.workers`.

    Args:
        command: Interpreter and arguments.
        environment: Variables that are set beside those of this process.
        folder: For images and for what the process prints; it must be there.
        timeout: Seconds after which an order counts as failed, and the process is ended.

    Attributes:
        pid: Of the process.
        born: When it was started, on the clock of `time.perf_counter`.
        peak_resident: Maximum bytes of memory that it reported; None before its first run.
    """

    def __init__(
        self, command: list[str], environment: Mapping[str, str], folder: Path, *, timeout: float
    ) -> None:
        self._folder, self._timeout = folder, timeout
        self._log = (folder / "output.log").open("w+b")
        self.born = time.perf_counter()
        self.peak_resident: int | None = None
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **environment},
            start_new_session=True,  # an interrupt from the keyboard is for the harness, which then ends it
            encoding="utf-8",
        )
        self.pid = self._process.pid
        self._answers: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def prepare(self, source: Source) -> None:
        """Make what the library needs beside the checkpoint.

        Raises:
            RunnerError: It failed.
        """
        self._order({"do": "prepare", "source": asdict(source)})

    def start(self, source: Source) -> Started:
        """Load everything.

        Raises:
            RunnerError: It failed.
        """
        return Started(self._order({"do": "start", "source": asdict(source)}))

    def run(self, case: Case) -> Outcome:
        """Paint once.

        Raises:
            RunnerError: It failed.
        """
        path = self._folder / "images.npy"
        answer = self._order({"do": "run", "case": asdict(case), "images": str(path)})
        self.peak_resident = answer["peak_resident"]
        return Outcome(
            images=np.load(path),
            total=answer["total"],
            steps=tuple(answer["steps"]),
            stages=answer["stages"],
            notes=tuple(answer["notes"]),
        )

    def _order(self, order: Mapping[str, Any]) -> dict[str, Any]:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101  it was asked for
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            stdin.write(json.dumps(order) + "\n")
            stdin.flush()
        answer: dict[str, Any] = json.loads(self._next_line(str(order["do"])))
        if "error" in answer:
            raise RunnerError(_one_line(answer["error"]), received=answer["trace"])
        return answer

    def _next_line(self, order: str) -> str:
        try:
            line = self._answers.get(timeout=self._timeout)
        except Empty:
            self._process.kill()
            raise RunnerError(f"no answer to {order!r} within {self._timeout:g} s") from None
        if not line:
            status = self._process.wait()
            raise RunnerError(f"the process ended with status {status} during {order!r}{self._last_words()}")
        return line

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101  it was asked for
        for line in stdout:
            self._answers.put(line)
        self._answers.put("")

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        """End the process: it may tidy up for a moment, then it is killed."""
        with contextlib.suppress(RunnerError):
            self._timeout = min(self._timeout, _GRACE)
            self._order({"do": "close"})
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.kill()


def _one_line(text: str) -> str:
    return " ".join(text.split())
