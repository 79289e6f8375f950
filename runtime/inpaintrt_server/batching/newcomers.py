"""Requests before their first slot: pictures are prepared by workers, and encoded between steps."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from math import prod

import numpy as np

from inpaintrt.errors import EngineRunError, InputError
from inpaintrt.stages import Stages, untouched
from inpaintrt.vae import LatentDistribution
from inpaintrt_server.batching.chores import Chore, Chores
from inpaintrt_server.batching.jobs import Finished
from inpaintrt_server.batching.memory import MemoryBudget
from inpaintrt_server.batching.observing import Observer
from inpaintrt_server.batching.pictures import PictureCache, content_key
from inpaintrt_server.batching.task import Task

__all__ = ["Newcomers"]

logger = logging.getLogger(__name__)

Post = Callable[[Callable[[], None]], None]


class Newcomers:
    """Brings requests to where they can take slots. For the engine's thread.

    Only so many are prepared ahead of their turn, since prepared pictures are large.

    Args:
        stages: The bundle's stages.
        cache: Encoded pictures.
        chores: Does the encoding.
        pool: Prepares pictures.
        post: Runs something on the engine's thread.
        ahead: How many requests may be prepared and have no slot yet.
        observer: Hears of the caches.
        budget: Refuses what would take too much memory.

    Attributes:
        ready: Requests that wait for slots only, or have some already and wait for more.
    """

    def __init__(
        self,
        stages: Stages,
        cache: PictureCache,
        chores: Chores,
        *,
        pool: Executor,
        post: Post,
        ahead: int,
        observer: Observer,
        budget: MemoryBudget,
    ) -> None:
        self._stages = stages
        self._cache = cache
        self._chores = chores
        self._pool = pool
        self._post = post
        self._ahead = ahead
        self._observer = observer
        self._budget = budget
        self._waiting: deque[Task] = deque()
        self._preparing: set[Task] = set()
        self.ready: list[Task] = []

    def add(self, task: Task) -> None:
        """Let a request wait for its turn."""
        self._waiting.append(task)

    def call(self) -> None:
        """Have the next requests prepared, as far as there is room."""
        while self._waiting and self._under_way() < self._ahead:
            task = self._waiting.popleft()
            if not task.over:
                self._preparing.add(task)
                self._pool.submit(self._prepare, task)

    def _under_way(self) -> int:
        unseated = sum(1 for task in self.ready if not task.seated)
        return len(self._preparing) + len(self._chores.newcomers) + unseated

    @property
    def coming(self) -> bool:
        """Whether there are requests that are not ready yet."""
        return bool(self._waiting or self._preparing or self._chores.newcomers)

    def drop_ended(self) -> None:
        """Forget requests that are over."""
        if any(task.over for task in self._waiting):
            self._waiting = deque(task for task in self._waiting if not task.over)
        self.ready = [task for task in self.ready if not task.over]

    def _prepare(self, task: Task) -> None:
        """In a worker: pictures to tensors."""
        try:
            with task.clock.stage("prepare"):
                task.prepared = self._stages.prepare(task.request)
                if all(picture.empty for picture in task.prepared):
                    self._hand_back(task)
                else:
                    self._budget.check(task.request, prod(task.prepared[0].image.shape[2:]))
                    pictures = self._stages.images_to_encode(task.request, task.prepared)
                    task.picture_keys = [content_key(picture) for picture in pictures]
        except InputError as error:
            task.fail(error)
        except Exception as error:
            logger.exception("%s: pictures cannot be prepared", task.id, extra={"job_ids": [task.id]})
            task.fail(error)
        self._post(lambda: self._prepared(task))

    def _hand_back(self, task: Task) -> None:
        """End a request whose masks leave nothing to repaint."""
        images = untouched(task.request, task.prepared)
        timings = task.clock.timings(steps=0)
        task.mailbox.put(Finished(tuple(images), task.request.seeds, task.notes, timings))

    def _prepared(self, task: Task) -> None:
        self._preparing.discard(task)
        if not task.over:
            self._chores.newcomers.append(Chore(task, self._encode(task)))

    def _encode(self, task: Task) -> Iterator[None]:
        """Encode a request; each piece runs the text encoder, or the VAE for one picture."""
        with task.clock.stage("encode"):
            self._encode_prompts(task)
        request = task.request
        pictures = self._stages.images_to_encode(request, task.prepared)
        encoded: list[LatentDistribution] = []
        for key, picture in zip(task.picture_keys, pictures, strict=True):
            if key not in self._cache:
                yield
            with task.clock.stage("encode"):
                distribution, hit = self._cache.get(key, partial(self._stages.encode_picture, picture))
            self._observer.cache("pictures", hit=hit)
            encoded.append(distribution)
        if task.contexts is not None:
            task.entries = self._stages.start(request, task.prepared, task.table, task.contexts, encoded)
            self._let_in(task)

    def _let_in(self, task: Task) -> None:
        """Keep NaN out of the slots, where it would spoil the step of others."""
        values = (
            value
            for entry in task.entries
            for value in (*entry.program.per_row.values(), entry.latents, *entry.residents.values())
        )
        if all(np.isfinite(value).all() for value in values):
            self.ready.append(task)
            return
        logger.error("the encoders give no finite values for %s", task.id, extra={"job_ids": [task.id]})
        task.fail(
            EngineRunError(
                "the encoded prompt or picture holds NaN or infinite values",
                hint="in half precision an encoder may overflow: export it in float32",
            )
        )

    def _encode_prompts(self, task: Task) -> None:
        prompts = self._stages.prompts
        hits, misses = prompts.hits, prompts.misses
        task.contexts = self._stages.encode_prompts(task.request)
        for _ in range(prompts.hits - hits):
            self._observer.cache("prompts", hit=True)
        for _ in range(prompts.misses - misses):
            self._observer.cache("prompts", hit=False)
