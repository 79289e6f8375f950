"""Groups of results that share steps, and whose turn it is."""

from __future__ import annotations

from inpaintrt.denoiser import Slots
from inpaintrt.flow import Batch
from inpaintrt_server.batching.engine import GroupKey, StepEngine
from inpaintrt_server.batching.memory import MemoryBudget
from inpaintrt_server.batching.models import Model
from inpaintrt_server.batching.task import Task

__all__ = ["Group", "Groups"]


class Group(Batch[Task]):
    """Results of one model, one image size and one length of prompts, which step together.

    Args:
        engine: Runs their steps.
        slots: Their slots.
        area: Latent pixels of a result.
        charged: What the group begins with, see `Groups`.
    """

    def __init__(self, engine: StepEngine, slots: Slots, area: int, charged: float) -> None:
        super().__init__(slots)
        self.engine = engine
        self.area = area
        self.charged = charged

    @property
    def rows(self) -> int:
        """The maximum number of UNet rows that a step may need."""
        return sum(task.rows for task, _ in self.assignments.values())

    def tasks(self) -> tuple[Task, ...]:
        """The tasks of this group, each once."""
        return tuple(dict.fromkeys(task for task, _ in self.assignments.values()))


class Groups:
    """All groups, which take turns, so that every request is slowed down by the same factor.

    A step is charged with its image's size, whoever shares it, and the group that was charged least is
    next. So while a large image does one step, one of a quarter of its size does four, which is also how
    they would relate if each had the device for itself; and nobody waits for more than a few steps of others.
    A group that comes begins with the lowest charge of those that are there.

    Args:
        capacity: Results that may be in flight, in all groups together.
        budget: The memory that the steps of all groups may take together.

    Attributes:
        capacity: Results that may be in flight, in all groups together.
    """

    def __init__(self, capacity: int, budget: MemoryBudget) -> None:
        self._budget = budget
        self.capacity = capacity
        self._groups: dict[tuple[Model, GroupKey], Group] = {}

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def active(self) -> int:
        """Results in flight."""
        return sum(len(group.assignments) for group in self._groups.values())

    def join(self, task: Task) -> bool:
        """Assign a slot to the next result of a task; False if it has to wait for one, or for memory.

        Raises:
            EngineInputError: The engine was built for less, or for other sizes.
            EngineError: The engine failed.
        """
        engine, key = task.model.engine, GroupKey.of(task.entries[0])
        if self.active >= self.capacity or not self._has_memory(engine, key, task.rows):
            return False
        group = self._groups.get((task.model, key))
        if group is None:
            group = self._open(engine, key, task.rows)
        elif not engine.takes(key, group.rows + task.rows):
            return False
        group.join(task)
        self._groups[task.model, key] = group
        return True

    def _has_memory(self, engine: StepEngine, key: GroupKey, rows: int) -> bool:
        """Whether a result may run beside the others; what has passed `MemoryBudget.check` may run alone."""
        taken = sum(self._memory(group.area, group.rows, group.engine) for group in self._groups.values())
        _, height, width = key.latent_shape
        return not self._groups or self._budget.fits(taken + self._memory(height * width, rows, engine))

    def _memory(self, area: int, rows: int, engine: StepEngine) -> float:
        return self._budget.step(rows, area * engine.pixels)

    def _open(self, engine: StepEngine, key: GroupKey, rows: int) -> Group:
        engine.check(key, rows)
        _, height, width = key.latent_shape
        lowest_charge = min((other.charged for other in self._groups.values()), default=0.0)
        return Group(engine, engine.open(key.latent_shape), height * width, lowest_charge)

    def next(self) -> Group | None:
        """The group that steps next, and charge it; None if nobody is in flight."""
        if not self._groups:
            return None
        group = min(self._groups.values(), key=lambda group: group.charged)
        group.charged += group.area
        return group

    def drop(self, group: Group) -> None:
        """Drop a group with whoever is in it, without reading its slots, which may be lost."""
        group.assignments.clear()
        self.drop_ended()

    def drop_ended(self) -> None:
        """Free the slots of requests that are over, and drop groups that are empty."""
        for group in self._groups.values():
            for slot, (task, _) in tuple(group.assignments.items()):
                if task.over:
                    group.leave(slot)
        self._groups = {key: group for key, group in self._groups.items() if group.assignments}
