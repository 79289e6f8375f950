"""Results in flight, grouped by what can share a step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from inpaintrt.denoiser import Entry, Slots
from inpaintrt_server.batching.memory import MemoryBudget
from inpaintrt_server.batching.step_engine import GroupKey, StepEngine
from inpaintrt_server.batching.task import Task

__all__ = ["Group", "Groups", "Seat"]


class Seat(NamedTuple):
    """One result of a task."""

    task: Task
    result: int

    @property
    def entry(self) -> Entry:
        """What it enters its slot with."""
        return self.task.entries[self.result]


class Group:
    """Results of one picture size and one length of prompts, which step together.

    Args:
        slots: Their slots.
        area: Latent pixels of a result.
        charged: What the group begins with, see `Groups`.

    Attributes:
        seats: Whose result is in which slot.
    """

    def __init__(self, slots: Slots, area: int, charged: float) -> None:
        self.slots = slots
        self.area = area
        self.charged = charged
        self.seats: dict[int, Seat] = {}

    @property
    def rows(self) -> int:
        """The most UNet rows that a step may need."""
        return sum(seat.task.rows for seat in self.seats.values())

    def rows_now(self) -> int:
        """UNet rows of the next step."""
        return sum(
            int(np.count_nonzero(seat.entry.program.weights[seat.task.done[seat.result]]))
            for seat in self.seats.values()
        )

    def join(self, seat: Seat) -> None:
        """Seat a result."""
        slot = self.slots.join(*seat.entry)
        self.seats[slot] = seat
        seat.task.seated += 1

    def leave(self, slot: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Free a slot; its latents."""
        seat = self.seats.pop(slot)
        seat.task.seated -= 1
        return self.slots.leave(slot)

    def tasks(self) -> tuple[Task, ...]:
        """The tasks of this group, each once."""
        return tuple(dict.fromkeys(seat.task for seat in self.seats.values()))


class Groups:
    """All groups, which take turns, so that every request is slowed down by the same factor.

    A step is charged with its picture's size, whoever shares it, and the group that was charged least is
    next. So while a large picture does one step, one of a quarter of its size does four, which is also how
    they would relate if each had the device for itself; and nobody waits for more than a few steps of others.
    A group that comes begins with the least charge of those that are there.

    Args:
        engine: What runs the steps.
        budget: The memory that the steps of all groups may take together.

    Attributes:
        capacity: Results that may be in flight, in all groups together.
    """

    def __init__(self, engine: StepEngine, budget: MemoryBudget) -> None:
        self._engine = engine
        self._budget = budget
        self.capacity = engine.slots
        self._groups: dict[GroupKey, Group] = {}

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def active(self) -> int:
        """Results in flight."""
        return sum(len(group.seats) for group in self._groups.values())

    def join(self, seat: Seat) -> bool:
        """Seat a result; False if it has to wait for a place or for memory.

        Raises:
            EngineInputError: The engine was built for less, or for other sizes.
            EngineError: The engine failed.
        """
        key = GroupKey.of(seat.entry)
        if self.active >= self.capacity or not self._has_memory(key, seat.task.rows):
            return False
        group = self._groups.get(key)
        if group is None:
            group = self._open(key, seat.task.rows)
        elif not self._engine.takes(key, group.rows + seat.task.rows):
            return False
        group.join(seat)
        self._groups[key] = group
        return True

    def _has_memory(self, key: GroupKey, rows: int) -> bool:
        """Whether a result may run beside the others; what has passed `MemoryBudget.check` may run alone."""
        taken = sum(self._memory(other, group.rows) for other, group in self._groups.items())
        return not self._groups or self._budget.fits(taken + self._memory(key, rows))

    def _memory(self, key: GroupKey, rows: int) -> float:
        _, height, width = key.latent_shape
        return self._budget.step(rows, height * width * self._engine.pixels)

    def _open(self, key: GroupKey, rows: int) -> Group:
        self._engine.check(key, rows)
        _, height, width = key.latent_shape
        least = min((other.charged for other in self._groups.values()), default=0.0)
        return Group(self._engine.open(key.latent_shape), height * width, least)

    def next(self) -> Group | None:
        """The group whose turn it is, and charge it; None if nobody is in flight."""
        if not self._groups:
            return None
        group = min(self._groups.values(), key=lambda group: group.charged)
        group.charged += group.area
        return group

    def drop(self, group: Group) -> None:
        """Give a group up with whoever is in it, without a look at its slots, which may be lost."""
        for seat in group.seats.values():
            seat.task.seated -= 1
        group.seats.clear()
        self.drop_ended()

    def drop_ended(self) -> None:
        """Free the slots of requests that are over, and drop groups that are empty."""
        for group in self._groups.values():
            for slot, seat in tuple(group.seats.items()):
                if seat.task.over:
                    group.leave(slot)
        self._groups = {key: group for key, group in self._groups.items() if group.seats}
