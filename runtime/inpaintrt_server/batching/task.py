"""One request in the server, from its submission to its last event."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from math import prod
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from inpaintrt.errors import EngineRunError, InputError
from inpaintrt.flow import Flow, Stage
from inpaintrt.request import Request
from inpaintrt.stages import Contexts
from inpaintrt.vae import LatentDistribution
from inpaintrt_server.batching.events import (
    Event,
    EventQueue,
    Finished,
    JobTimings,
    Observer,
    PendingEvent,
    Started,
    Stepped,
    TimingName,
)
from inpaintrt_server.batching.image_cache import ImageCache, content_key
from inpaintrt_server.batching.loras import LoraChoice
from inpaintrt_server.batching.memory import MemoryBudget
from inpaintrt_server.batching.models import Model
from inpaintrt_server.errors import DeadlineError

__all__ = ["Interruptible", "Job", "Task"]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_OBSERVED: tuple[TimingName, ...] = ("queue", "prepare", "encode", "denoise", "decode", "paste", "total")


@runtime_checkable
class Interruptible(Protocol):
    """Steps after which previews are made, for a caller that may take the last of them for the results."""

    @property
    def interrupted(self) -> bool:
        """Whether the next previews are to be as exact as results."""
        ...


class Job(Protocol):
    """A request that was submitted."""

    @property
    def id(self) -> str:
        """The request's id."""
        ...

    def cancel(self) -> None:
        """Cancel: the slot is free at the next step. Afterwards the listener gets no more events."""
        ...


class Task(Flow):
    """A flow with a listener, a deadline, and the server's caches and memory budget.

    Any thread may call `cancel` and `fail`, and a worker calls `prepare`; everything else belongs to the
    engine's thread.

    Args:
        request: What is asked for.
        base: The bundle itself, which knows what samplers and options there are.
        events: Where its events go.
        loras: What it has chosen; the model comes with `use`.
        admitted: When it got its permit, on the monotonic clock.
        deadline: When it has to have done its steps, on the monotonic clock.
        preview_steps: Steps after which the listener gets previews, asked once after each step, so that what
            is in it may depend on the moment; or how many steps, fewer in a short run. Previews are decoded
            by the bundle's fastest VAE, unless these steps are `Interruptible` and interrupted.
        cache: Encoded images.
        budget: Refuses what would take too much memory.
        observer: Gets cache hits and timings.

    Attributes:
        loras: What it has chosen.
        model: What runs it.
        has_model: Whether `model` is that of its choice, so that it may be prepared.
    """

    def __init__(
        self,
        request: Request,
        base: Model,
        events: EventQueue,
        *,
        loras: LoraChoice,
        admitted: float,
        deadline: float | None,
        preview_steps: int | Collection[int],
        cache: ImageCache,
        budget: MemoryBudget,
        observer: Observer,
    ) -> None:
        super().__init__(base.stages, request)
        self.events = events
        self.loras = loras
        self.model = base
        self.has_model = False
        self.admitted = admitted
        self.deadline = deadline
        self._preview_steps = (
            _spread(preview_steps, self.table.rows) if isinstance(preview_steps, int) else preview_steps
        )
        self._cache = cache
        self._budget = budget
        self._observer = observer
        self._image_keys: list[bytes] = []

    @property
    def id(self) -> str:
        """The request's id."""
        return self.events.job_id

    def cancel(self) -> None:
        """Cancel: slots are free at the next step, and the listener gets no more events."""
        self.events.close()

    def fail(self, error: Exception) -> None:
        """End with an error, whatever is still to come."""
        self.events.fail(error)

    @property
    def over(self) -> bool:
        """Whether the last event was delivered."""
        return self.events.closed

    def check_deadline(self, now: float) -> None:
        """Fail if the time is over and there is a step to come."""
        if self.deadline is None or now < self.deadline or self.denoised or self.over:
            return
        late = f"{self.progress} of {self.table.rows} steps done"
        self.fail(
            DeadlineError(
                "the request's time is over",
                received=late if self.stage >= Stage.READY else "still waiting",
                hint="allow more time, or ask for fewer steps",
            )
        )

    def use(self, model: Model) -> None:
        """Run on a model, from the first stage on."""
        self._stages = model.stages
        self.model, self.has_model = model, True

    def prepare(self) -> None:
        """Prepare the images; what is wrong with them fails the task, an empty mask finishes it."""
        try:
            super().prepare()
            if self.unchanged:
                self.events.put(self._paste_results(steps=0))
            else:
                self._check_size()
        except InputError as error:
            self.fail(error)
        except Exception as error:
            logger.exception("%s: images cannot be prepared", self.id, extra={"job_ids": [self.id]})
            self.fail(error)

    def _check_size(self) -> None:
        with self.clock.stage("prepare"):
            self._budget.check(self.request, prod(self.prepared[0].image.shape[2:]))
            vae = self.request.options["vae"]
            self._image_keys = [content_key(image, vae) for image in self.images_to_encode()]

    def encode(self) -> Iterator[None]:
        """Encode in pieces; values that are not finite fail the task."""
        return self._encode_finite(super().encode())

    def _encode_finite(self, pieces: Iterator[None]) -> Iterator[None]:
        """Keep NaN out of the slots, where it would reach the results of others."""
        yield from pieces
        values = (
            value
            for entry in self.entries
            for value in (*entry.program.per_row.values(), entry.latents, *entry.residents.values())
        )
        if all(np.isfinite(value).all() for value in values):
            return
        logger.error("the encoders give no finite values for %s", self.id, extra={"job_ids": [self.id]})
        self.fail(
            EngineRunError(
                "the encoded prompt or image holds NaN or infinite values",
                hint="in half precision an encoder may overflow: export it in float32",
            )
        )

    def encode_prompts(self) -> Contexts:
        """Encode all prompts, and count which of them were in the cache."""
        prompts = self._stages.prompts
        hits, misses = prompts.hits, prompts.misses
        contexts = super().encode_prompts()
        for _ in range(prompts.hits - hits):
            self._observer.cache("prompts", hit=True)
        for _ in range(prompts.misses - misses):
            self._observer.cache("prompts", hit=False)
        return contexts

    def encode_image(self, index: int, image: Floats) -> LatentDistribution:
        """Encode an image unless it is in the cache."""
        encode = partial(super().encode_image, index, image)
        distribution, hit = self._cache.get(self._image_keys[index], encode)
        self._observer.cache("images", hit=hit)
        return distribution

    @property
    def wants_slots(self) -> bool:
        """Whether a result waits for a slot."""
        return self.stage in (Stage.READY, Stage.DENOISING) and bool(self.waiting) and not self.over

    def start(self) -> None:
        """Tell that the first result has a slot."""
        self.enter(Stage.DENOISING)
        self.events.put(Started(self.table.rows))

    @property
    def wants_preview(self) -> bool:
        """Whether previews are wanted after the present step; after the last one the results follow."""
        return self.progress in self._preview_steps and self.progress < self.table.rows

    def send_step(self) -> None:
        """Tell that a step is done."""
        self.events.put(Stepped(self.progress, self.table.rows))

    def send_preview(self, estimates: Mapping[int, Floats]) -> Iterator[None]:
        """Tell that a step is done, with previews: decoded in pieces, and pasted by a worker.

        Args:
            estimates: From `Batch.estimates`.
        """
        index, decoded = self.progress, dict[int, Floats]()
        steps = self._preview_steps
        interrupted = isinstance(steps, Interruptible) and steps.interrupted
        vae = self.vae if interrupted else self.preview_vae

        def paste() -> Event:
            previews = tuple(self.paste_estimates(decoded))
            return Stepped(index, self.table.rows, previews, exact=vae is self.vae)

        return self._send(self.events.reserve(), self.decode_estimates(vae, estimates, decoded), paste)

    def send_results(self) -> Iterator[None]:
        """Tell the results: decoded in pieces, and pasted by a worker."""
        return self._send(self.events.reserve(), self.decode(), self._finish)

    def _send(
        self, pending: PendingEvent, pieces: Iterator[None], paste: Callable[[], Event]
    ) -> Iterator[None]:
        yield from pieces
        self.events.fill(pending, paste)

    def _finish(self) -> Finished:
        finished = self._paste_results(self.table.rows)
        for name in _OBSERVED:
            self._observer.stage(name, getattr(finished.timings, name))
        return finished

    def _paste_results(self, steps: int) -> Finished:
        images = tuple(self.paste())
        return Finished(images, self.request.seeds, self.warnings, self._timings(steps))

    def _timings(self, steps: int) -> JobTimings:
        now = time.monotonic()
        started = self.entered.get(Stage.DENOISING, now)
        prepare = self.clock.seconds("prepare")
        encode = self.clock.seconds("prompts") + self.clock.seconds("image_encode")
        return JobTimings(
            queue=max(started - self.admitted - prepare - encode, 0.0),
            prepare=prepare,
            encode=encode,
            denoise=self.entered.get(Stage.DECODING, started) - started,
            decode=self.clock.seconds("image_decode"),
            paste=self.clock.seconds("paste"),
            total=now - self.admitted,
            steps=steps,
        )


def _spread(count: int, total: int) -> Collection[int]:
    """Steps that divide a run into `count + 1` parts of about the same length."""
    steps = {round(total * part / (count + 1)) for part in range(1, count + 1)}
    return frozenset(step for step in steps if 0 < step < total)
