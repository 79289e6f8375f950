"""How requests are batched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from inpaintrt.errors import ParameterError

__all__ = ["BatchingSettings", "Mode"]

Mode: TypeAlias = Literal["continuous", "whole-batches", "one-at-a-time"]


@dataclass(frozen=True)
class BatchingSettings:
    """How requests are batched.

    Args:
        slots: Results that are denoised at the same time.
        queue: Requests that may wait beside as many as there are slots; with more, new ones are refused.
        row_buckets: Numbers of UNet rows that a step is padded to. With None a step has just the rows that it
            needs, which is fastest where time grows with rows, as on CPUs.
        mode: "continuous" lets requests join between any two steps. For comparison, "whole-batches" lets them
            join only when all slots are empty, and "one-at-a-time" fills the slots from one request alone.
        workers: Threads that read pictures and put results into them.
        prompt_cache: Windows of prompts whose embeddings are kept.
        picture_cache: Bytes of encoded pictures that are kept.
        memory_budget: Bytes that runs of the engines may take beside their weights, of all slots together;
            None for half of what the machine has.
        faults: Failures of a stage in a row after which the engine counts as lost.

    Raises:
        ParameterError: A value is out of its range.
    """

    slots: int = 4
    queue: int = 64
    row_buckets: tuple[int, ...] | None = None
    mode: Mode = "continuous"
    workers: int = 2
    prompt_cache: int = 256
    picture_cache: int = 64 * 2**20
    memory_budget: int | None = None
    faults: int = 3

    def __post_init__(self) -> None:
        for name, least in (
            ("slots", 1),
            ("queue", 0),
            ("workers", 1),
            ("prompt_cache", 0),
            ("picture_cache", 0),
            ("faults", 1),
        ):
            _check_whole(name, getattr(self, name), least)
        if self.memory_budget is not None:
            _check_whole("memory_budget", self.memory_budget, 1)
        if self.row_buckets is not None:
            for bucket in self.row_buckets or (0,):
                _check_whole("every one of row_buckets", bucket, 1)
        if self.mode not in get_args(Mode):
            raise ParameterError(
                "the mode of batching is unknown",
                received=repr(self.mode),
                expected=", ".join(get_args(Mode)),
            )


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ParameterError(
            f"{name} is out of range", received=repr(value), expected=f"an integer from {least}"
        )
