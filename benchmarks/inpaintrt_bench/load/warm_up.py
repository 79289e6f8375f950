"""Work that brings a server to its speed before it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inpaintrt_bench.load.clients import Loop, Sent, run_together
from inpaintrt_bench.load.requests import Task, make_call
from inpaintrt_bench.load.server import ServedProcess

__all__ = ["descending_steps", "warm_up"]

_STEPS_APART = 5


def warm_up(server: ServedProcess, tasks: Sequence[Task], api: str) -> tuple[Sent, ...]:
    """Let a server run steps of every number of rows that it has slots for, at every size.

    A GPU compiles, allocates and records for each number of rows, or bucket of them, when it first comes.
    For each size there is a burst of as many requests as there are slots. They end one after another, so that
    steps have fewer and fewer rows.

    Args:
        server: A server that nothing else loads.
        tasks: What it will be asked for.
        api: The interface to ask.

    Returns:
        What became of the requests of each size, which is not part of any measurement.
    """
    slots = int(server.information()["slots"])
    one_of_each_size = {(task.size, task.run_size): task for task in tasks}.values()
    return tuple(
        run_together(Loop(server.url, tuple(make_call(one, api) for one in descending_steps(task, slots))))
        for task in one_of_each_size
    )


def descending_steps(task: Task, count: int) -> tuple[Task, ...]:
    """A task with several numbers of steps, the longest first: who is sent last ends first."""
    return tuple(replace(task, steps=_STEPS_APART * number) for number in range(count, 0, -1))
