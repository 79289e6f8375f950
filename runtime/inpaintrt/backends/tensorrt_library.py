"""TensorRT and TensorRT-RTX as one library: found, with one logger, and with errors that can be read."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, SupportsInt, get_args

from inpaintrt.errors import EngineUnavailableError, ParameterError

__all__ = ["PLAN_BACKENDS", "PlanBackend", "PlanLibrary", "Reports", "load_library"]

PlanBackend = Literal["tensorrt", "tensorrt-rtx"]
PLAN_BACKENDS: tuple[PlanBackend, ...] = get_args(PlanBackend)

_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())  # errors reach the user as exceptions
# By ILogger.Severity: internal error, error, warning, info, verbose.
_LEVELS = (logging.ERROR, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)


class Reports:
    """What the library reports as errors while something is done, since it returns None and no more."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __str__(self) -> str:
        return "\n".join(self.messages) or "no reason given"


class _Log:
    """Hands the library's messages to `logging`, and errors to whoever listens."""

    # An IErrorRecorder on a builder would be the library's own way, but TensorRT-RTX 1.7.1 crashes when a
    # network is freed that was made after the recorder was set.
    listeners: tuple[Reports, ...] = ()

    def log(self, severity: SupportsInt, message: str) -> None:
        level = _LEVELS[int(severity)]
        _LOG.log(level, "%s", message)
        if level == logging.ERROR:
            for reports in self.listeners:
                reports.messages.append(message.strip())


@dataclass(frozen=True)
class PlanLibrary:
    """TensorRT or TensorRT-RTX.

    Their Python modules are made from one source, so that one class serves both; where they differ, ask what
    the module has, since their version numbers count different things.

    Attributes:
        backend: Our name of it.
        module: The Python module.
        logger: The process's one logger; the library ignores every further one.
    """

    backend: PlanBackend
    module: Any
    logger: Any

    @property
    def version(self) -> str:
        """The library's version, e.g. "1.7.1.116"."""
        return str(self.module.__version__)

    @property
    def names_targets(self) -> bool:
        """Whether plans are built for compute capabilities that are named, on a machine without a GPU."""
        return hasattr(self.module, "ComputeCapability")

    @property
    def has_runtime_cache(self) -> bool:
        """Whether kernels are finished at the first run and kept in a runtime cache."""
        return hasattr(self.module, "IRuntimeCache")

    @contextlib.contextmanager
    def listen(self) -> Iterator[Reports]:
        """Collect the errors that the library reports meanwhile, from any thread."""
        reports = Reports()
        self.logger.listeners += (reports,)
        try:
            yield reports
        finally:
            self.logger.listeners = tuple(kept for kept in self.logger.listeners if kept is not reports)


@functools.cache
def load_library(backend: PlanBackend) -> PlanLibrary:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        ParameterError: No backend of that name has plans.
        EngineUnavailableError: It is not installed, or its libraries cannot be loaded.
    """
    if backend not in PLAN_BACKENDS:
        raise ParameterError(
            "no backend of that name has plans", received=repr(backend), expected=", ".join(PLAN_BACKENDS)
        )
    name = backend.replace("-", "_")
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise EngineUnavailableError(
            f"the backend {backend!r} needs the Python package {name}, which cannot be imported",
            received=str(error),
            hint=f"pip install 'inpaintrt[{backend}]'",
        ) from error
    return PlanLibrary(backend, module, type("Log", (_Log, module.ILogger), {})())
