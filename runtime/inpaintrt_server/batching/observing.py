"""What the outside may watch: events for metrics, and a picture of the present state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

__all__ = ["Cache", "Ending", "Observer", "Refusal", "Silent", "Snapshot", "Stage"]

Stage: TypeAlias = Literal["queue", "prepare", "encode", "denoise", "decode", "paste", "total"]
Cache: TypeAlias = Literal["prompts", "pictures"]
Refusal: TypeAlias = Literal["queue_full", "draining", "engine_lost"]
Ending: TypeAlias = Literal["finished", "failed", "cancelled"]


class Observer(Protocol):
    """Hears what happens. Its methods are called by several threads, return at once and never raise."""

    def step(self, seconds: float, rows: int, bucket: int) -> None:
        """A step is done: how long it took, its rows, and how many they were padded to."""
        ...

    def stage(self, name: Stage, seconds: float) -> None:
        """What a stage of a finished request took."""
        ...

    def refused(self, reason: Refusal) -> None:
        """A request was not taken in."""
        ...

    def cache(self, name: Cache, *, hit: bool) -> None:
        """Something was looked up."""
        ...

    def ended(self, how: Ending) -> None:
        """A request is over."""
        ...


class Silent:
    """Does nothing."""

    def step(self, seconds: float, rows: int, bucket: int) -> None:
        """Do nothing."""

    def stage(self, name: Stage, seconds: float) -> None:
        """Do nothing."""

    def refused(self, reason: Refusal) -> None:
        """Do nothing."""

    def cache(self, name: Cache, *, hit: bool) -> None:
        """Do nothing."""

    def ended(self, how: Ending) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Snapshot:
    """The state of the service at one moment.

    Attributes:
        slots: Results that are denoised at the same time, at most.
        active: Slots that are taken.
        groups: Picture sizes (and lengths of prompts) among them.
        outstanding: Requests that hold a place, from admission to their end.
        capacity: Places there are.
        queued: Requests that were handed in and have no slot yet.
        ready: Requests are taken in and the engine is warm.
        draining: Nothing new is taken in.
        engine_lost: The engine failed for good; the process has to be started again.
        steps: Steps done since the start.
        rows: UNet rows in them.
        padded_rows: The same, padded to buckets.
        cache_hits: For each cache.
        cache_misses: For each cache.
    """

    slots: int
    capacity: int
    active: int = 0
    groups: int = 0
    outstanding: int = 0
    queued: int = 0
    ready: bool = False
    draining: bool = False
    engine_lost: bool = False
    steps: int = 0
    rows: int = 0
    padded_rows: int = 0
    cache_hits: Mapping[Cache, int] = field(default_factory=dict)
    cache_misses: Mapping[Cache, int] = field(default_factory=dict)
