"""Who takes a free slot, and when."""

from __future__ import annotations

from collections.abc import Callable

from inpaintrt.errors import EngineInputError, ParameterError
from inpaintrt_server.batching.groups import Groups, Seat
from inpaintrt_server.batching.jobs import Started
from inpaintrt_server.batching.newcomers import Newcomers
from inpaintrt_server.batching.settings import Mode
from inpaintrt_server.batching.task import Task

__all__ = ["Joining"]


class Joining:
    """Fills free slots.

    A place goes to the request with the fewest results in slots, and among those to the first that was
    admitted; so a request of many results takes all slots when it is alone, and does not keep others out.

    Args:
        newcomers: Where requests come from.
        groups: Where they go.
        mode: When they may.
        on_error: Told of a task that an engine fails to take in.
    """

    def __init__(
        self,
        newcomers: Newcomers,
        groups: Groups,
        mode: Mode,
        *,
        on_error: Callable[[Task, Exception], None],
    ) -> None:
        self._newcomers = newcomers
        self._groups = groups
        self._mode = mode
        self._on_error = on_error
        self._gathering = True

    @property
    def may_step(self) -> bool:
        """Whether those in the slots may go on; a whole batch waits until it is complete."""
        return self._mode != "whole-batches" or not self._gathering

    def fill(self) -> None:
        """Seat whoever may join now."""
        if self._groups.active == 0:
            self._gathering = True
        room = True
        while room and (candidates := self._candidates()):
            room = self._seat(min(candidates, key=lambda task: (task.seated, task.clock.admitted)))
        awaited = room and (self._newcomers.ready or self._newcomers.coming)
        if self._groups.active > 0 and not awaited:
            self._gathering = False

    def _candidates(self) -> list[Task]:
        ready = self._newcomers.ready
        if self._mode == "continuous" or (self._mode == "whole-batches" and self._gathering):
            return ready
        if self._mode == "one-at-a-time":
            return ready[:1] if self._groups.active == 0 else [task for task in ready if task.seated]
        return []

    def _seat(self, task: Task) -> bool:
        """Seat the next result of a task; False if there is no room."""
        try:
            if not self._groups.join(Seat(task, task.waiting[0])):
                return False
        except EngineInputError as error:
            task.fail(_as_refusal(error))
            self._newcomers.drop_ended()
            return True
        except Exception as error:  # noqa: BLE001 - handed on
            self._on_error(task, error)
            self._newcomers.drop_ended()
            return True
        if task.clock.enter():
            task.mailbox.put(Started(task.table.rows))
        task.waiting.popleft()
        if not task.waiting:
            self._newcomers.ready.remove(task)
        return True


def _as_refusal(error: EngineInputError) -> ParameterError:
    """What does not fit into an engine with nobody beside it cannot be served."""
    refusal = ParameterError(error.what, received=error.received, expected=error.expected, hint=error.hint)
    refusal.__cause__ = error
    return refusal
