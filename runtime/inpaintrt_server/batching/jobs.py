"""What a request becomes inside the server, and what its listener hears of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from PIL import Image

__all__ = ["Event", "Failed", "Finished", "Job", "JobTimings", "Listener", "Permit", "Started", "Stepped"]


@dataclass(frozen=True)
class JobTimings:
    """Where a request's time went, in seconds.

    Attributes:
        queue: From admission to the first slot, less what preparing and encoding took.
        prepare: Reading and fitting pictures and masks.
        encode: Prompts and pictures, on the engines.
        denoise: From the first step to the last.
        decode: Latents to pictures, on the engine.
        paste: Putting results into their pictures.
        total: From admission to the result.
        steps: Steps of the sampler.
    """

    queue: float = 0.0
    prepare: float = 0.0
    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    paste: float = 0.0
    total: float = 0.0
    steps: int = 0


@dataclass(frozen=True)
class Started:
    """The request has a slot, and its first step comes next.

    Attributes:
        total: Steps that it will take.
    """

    total: int


@dataclass(frozen=True)
class Stepped:
    """One more step is done.

    Attributes:
        index: Steps that are done.
        total: Steps there are.
        previews: The present estimate of each result, at the steps that the caller asked for; else empty.
    """

    index: int
    total: int
    previews: tuple[Image.Image, ...] = ()


@dataclass(frozen=True)
class Finished:
    """The last event of a request that went well.

    Attributes:
        images: The results.
        seeds: The seed of each result.
        warnings: What the caller should know.
        timings: Where the time went.
    """

    images: tuple[Image.Image, ...]
    seeds: tuple[int, ...]
    warnings: tuple[str, ...] = ()
    timings: JobTimings = field(default_factory=JobTimings)


@dataclass(frozen=True)
class Failed:
    """The last event of a request that did not.

    Attributes:
        error: Why: an `InputError`, an `EngineError`, or one of `inpaintrt_server.errors`.
    """

    error: Exception


Event: TypeAlias = "Started | Stepped | Finished | Failed"

Listener: TypeAlias = Callable[[Event], None]
"""Called by the server's threads for each event in order; it must return at once and never raise."""


class Job(Protocol):
    """A request that was handed in."""

    @property
    def id(self) -> str:
        """The request's id."""
        ...

    def cancel(self) -> None:
        """Give up: the slot is free at the next step. Afterwards the listener hears nothing more."""
        ...


class Permit(Protocol):
    """A place in the bounded queue, taken before a request's body is read."""

    def release(self) -> None:
        """Give the place back; does nothing once the request was handed in or the place given back."""
        ...
