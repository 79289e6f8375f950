"""Requests after their last step, and previews: decoded between steps, pasted by workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.images import paste_back
from inpaintrt.stages import Stages, pasted
from inpaintrt_server.batching.chores import Chore, Chores
from inpaintrt_server.batching.jobs import Event, Finished, Stepped
from inpaintrt_server.batching.mailbox import Letter
from inpaintrt_server.batching.observing import Observer, Stage
from inpaintrt_server.batching.task import Task

__all__ = ["Leavers"]

Floats = NDArray[np.float32]


class Leavers:
    """Turns latents into the pictures that listeners get. For the engine's thread.

    Pictures are decoded one by one. On two CPU cores a run of eight pictures of 128 x 128 took 10 to 20 %
    less time for each, which is 2 % of a request, and would hold the steps up for eight times as long.

    Args:
        stages: The bundle's stages.
        chores: Does the decoding.
        observer: Hears what the stages of a finished request took.
    """

    def __init__(self, stages: Stages, chores: Chores, observer: Observer) -> None:
        self._stages = stages
        self._chores = chores
        self._observer = observer

    def finish(self, task: Task) -> None:
        """Decode the results of a request that has done its last step, and hand them over."""
        letter = task.mailbox.reserve()
        self._chores.leavers.append(Chore(task, self._decode_results(task, letter)))

    def preview(self, task: Task, estimates: Mapping[int, Floats]) -> None:
        """Decode the present estimates of results, and tell of the step with them.

        Args:
            task: The request.
            estimates: `[channels, h, w]` for each result that has begun; for others the picture stands.
        """
        letter = task.mailbox.reserve()
        pieces = self._decode_preview(task, letter, estimates, task.progress)
        self._chores.leavers.append(Chore(task, pieces))

    def _decode_results(self, task: Task, letter: Letter) -> Iterator[None]:
        decoded: list[Floats] = []
        for result in range(len(task.done)):
            if decoded:
                yield
            with task.clock.stage("decode"):
                decoded.append(self._stages.decode(task.latents[result]))
        task.mailbox.fill(letter, lambda: self._finished(task, decoded))

    def _finished(self, task: Task, decoded: list[Floats]) -> Event:
        """In a worker: put the results into their pictures."""
        with task.clock.stage("paste"):
            images = pasted(task.request, task.prepared, decoded)
        timings = task.clock.timings(task.table.rows)
        stages: tuple[Stage, ...] = ("queue", "prepare", "encode", "denoise", "decode", "paste", "total")
        for name in stages:
            self._observer.stage(name, getattr(timings, name))
        return Finished(tuple(images), task.request.seeds, task.notes, timings)

    def _decode_preview(
        self, task: Task, letter: Letter, estimates: Mapping[int, Floats], index: int
    ) -> Iterator[None]:
        decoded: dict[int, Floats] = {}
        for result, latents in estimates.items():
            if decoded:
                yield
            decoded[result] = self._stages.decode(latents)
        task.mailbox.fill(letter, lambda: self._previewed(task, decoded, index))

    def _previewed(self, task: Task, decoded: Mapping[int, Floats], index: int) -> Event:
        """In a worker: put the estimates into their pictures."""
        pictures: list[Image.Image] = []
        for result, of_picture in enumerate(task.request.image_indices):
            prepared = task.prepared[of_picture]
            if result in decoded:
                pictures.append(paste_back(prepared, decoded[result]))
            else:
                pictures.append(prepared.original.copy())
        return Stepped(index, task.table.rows, tuple(pictures))
