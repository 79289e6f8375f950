"""Logs as JSON lines: the access log on stdout, everything else on stderr, whatever writes it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

__all__ = ["JsonFormatter", "LineHandler", "LogLosses", "json_logging", "losses"]

_ACCESS = "inpaintrt.access"
_STREAMS = {"stdout": 1, "stderr": 2}
_log = logging.getLogger("inpaintrt.server")


class LogLosses:
    """Which lines could not be written, such as on a full disk.

    Attributes:
        count: How many lines were lost since the process began.
    """

    def __init__(self) -> None:
        self.count = 0
        self._reasons: dict[int, str] = {}

    @property
    def reason(self) -> str | None:
        """Why lines are lost at present; None where the last ones could be written."""
        return next(iter(self._reasons.values()), None)

    def note(self, descriptor: int, error: OSError) -> None:
        """A line was lost."""
        self.count += 1
        self._reasons[descriptor] = error.strerror or str(error)

    def forget(self, descriptor: int) -> None:
        """A line was written."""
        self._reasons.pop(descriptor, None)


losses = LogLosses()
"""Of this process, whose standard streams there are once."""


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, and the `fields` given with `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message_of(record),
        }
        line.update(getattr(record, "fields", {}))
        if (request_id := getattr(record, "request_id", None)) is not None:
            line["request_id"] = request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  a library's bug must not lose what it had to say
        return f"{record.msg} {record.args}"


class LineHandler(logging.Handler):
    """Writes lines to a file descriptor, unbuffered; one that cannot be written is lost and changes nothing.

    Python's own handler prints a traceback then, and its stream writes what was left over at the end of the
    process, which changes the exit status.

    Args:
        descriptor: Where to write.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._torn = False
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            line = f"{self.format(record)}\n".encode()
            # After a line that broke off, a new one begins.
            self._write(b"\n" + line if self._torn else line)
        except OSError as error:
            losses.note(self._descriptor, error)
        else:
            losses.forget(self._descriptor)

    def _write(self, line: bytes) -> None:
        rest = line
        while rest:
            written = os.write(self._descriptor, rest)
            rest = rest[written:]
            self._torn = bool(rest)


class _Lines(io.TextIOBase):
    """Takes the place of a standard stream: what is printed is logged."""

    def __init__(self, name: str, descriptor: int) -> None:
        self._logger = logging.getLogger(name)
        self._descriptor = descriptor
        self._begun = threading.local()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: str) -> int:
        *lines, rest = (getattr(self._begun, "text", "") + text).split("\n")
        self._begun.text = rest
        for line in filter(str.strip, lines):
            self._logger.warning("%s", line)
        return len(text)


@contextlib.contextmanager
def json_logging() -> Iterator[Callable[[], object]]:
    """Make the standard streams of this process JSON lines: logs, warnings, prints and errors nobody caught.

    Yields:
        A function that makes it stay so up to the end of the process. Without that it is undone after the
        block, so that the command line tells in plain text why it does not start.
    """
    with contextlib.ExitStack() as undo:
        _send_records(undo)
        _replace_streams(undo)
        _log_what_nobody_caught(undo)
        yield undo.pop_all


def _send_records(undo: contextlib.ExitStack) -> None:
    root, access, uvicorn = logging.getLogger(), logging.getLogger(_ACCESS), logging.getLogger("uvicorn")
    libraries = _libraries()
    for logger in {root, access, uvicorn, *libraries}:
        undo.callback(_restore, logger, logger.handlers, logger.level, propagate=logger.propagate)
    for logger in libraries:
        logger.handlers, logger.propagate = [], True
    root.handlers = [LineHandler(_STREAMS["stderr"])]
    root.setLevel(logging.INFO)
    access.handlers = [LineHandler(_STREAMS["stdout"])]
    access.setLevel(logging.INFO)
    access.propagate = False
    # Its warnings are about clients, which the access log has.
    uvicorn.setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
    undo.callback(logging.captureWarnings, capture=False)


def _libraries() -> list[logging.Logger]:
    """Loggers that write by themselves."""
    known = logging.Logger.manager.loggerDict.values()
    return [logger for logger in known if isinstance(logger, logging.Logger) and logger.handlers]


def _restore(logger: logging.Logger, handlers: list[logging.Handler], level: int, *, propagate: bool) -> None:
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


def _replace_streams(undo: contextlib.ExitStack) -> None:
    for name, descriptor in _STREAMS.items():
        undo.callback(setattr, sys, name, getattr(sys, name))
        setattr(sys, name, _Lines(name, descriptor))


def _log_what_nobody_caught(undo: contextlib.ExitStack) -> None:
    for place, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        undo.callback(setattr, place, name, getattr(place, name))
    sys.excepthook = lambda kind, error, trace: _log.critical(
        "the process ends by an error", exc_info=(kind, error, trace)
    )
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_thread


def _log_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    message = unraisable.err_msg or "Exception ignored in"
    _log.error("%s: %r", message, unraisable.object, exc_info=unraisable.exc_value)


def _log_thread(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread else "unknown"
    _log.error("the thread %s ends by an error", name, exc_info=failed.exc_value)
