"""One flow for every request: prepare, encode, denoise, decode, paste.

`InpaintPipeline` runs a flow from end to end. A server runs many at a time: it prepares and pastes in worker
threads, encodes and decodes between steps, and lets the results of several flows share a `Batch`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.backends import Clock
from inpaintrt.denoiser import Entry, Slots, Step, micro_batch_size, nonfinite_error, open_slots
from inpaintrt.images import Prepared, paste_back
from inpaintrt.request import Request
from inpaintrt.stages import Contexts, Stages, results, untouched
from inpaintrt.timing import Stopwatch
from inpaintrt.vae import LatentDistribution, Vae

__all__ = ["Batch", "Flow", "MicroBatches", "SlotAssignment", "Stage"]

Floats = NDArray[np.float32]


class Stage(IntEnum):
    """How far a request has come."""

    WAITING = 0
    PREPARING = 1
    ENCODING = 2
    READY = 3
    DENOISING = 4
    DECODING = 5
    PASTING = 6


class Flow:
    """A request and how far it has come.

    Its methods are called in the order of the stages, one at a time, by any thread. `encode`, `decode` and
    `decode_estimates` return their work in pieces: each `next` encodes the prompts, or encodes or decodes one
    image. Steps are done by a `Batch`.

    Args:
        stages: The bundle's stages.
        request: What is asked for.

    Attributes:
        request: What is asked for.
        table: Its sampler's table.
        vae: What encodes and decodes its images.
        clock: Where its time goes.
        stage: How far it has come.
        entered: When it entered each stage, on `time.monotonic()`.
        prepared: Its images and masks.
        entries: What each result enters its slot with.
        waiting: Results that have had no slot yet.
        steps_done: Steps that each result has done.
        latents: `[channels, h, w]` of each result that has done its last step.

    Raises:
        ParameterError: An option is out of its range, for the sampler or for the checkpoint; or the bundle
            does not have the VAE that is asked for.
        SchedulerError: The sampler is unknown.
    """

    def __init__(self, stages: Stages, request: Request) -> None:
        count = len(request.prompts)
        self.request = request
        self.table = stages.compile(request)
        self.vae = stages.vaes.find(request.options["vae"])
        self.clock = Stopwatch()
        self.entered: dict[Stage, float] = {}
        self.prepared: Sequence[Prepared] = ()
        self.entries: Sequence[Entry] = ()
        self.waiting = deque(range(count))
        self.steps_done = [0] * count
        self.latents: dict[int, Floats] = {}
        self._stages = stages
        self._contexts: Contexts | None = None
        self._decoded: list[Floats] = []
        self.enter(Stage.WAITING)

    def enter(self, stage: Stage) -> None:
        """Note that a stage begins."""
        self.stage = stage
        self.entered[stage] = time.monotonic()

    def prepare(self) -> None:
        """Turn images and masks into tensors. Runs no engine.

        Raises:
            InputError: An image, a mask or a size cannot be used.
        """
        self.enter(Stage.PREPARING)
        with self.clock.stage("prepare"):
            self.prepared = self._stages.prepare(self.request)

    @property
    def unchanged(self) -> bool:
        """Whether no mask has anything to repaint, so that `paste` comes next."""
        return all(prepared.empty for prepared in self.prepared)

    def images_to_encode(self) -> list[Floats]:
        """What the VAE has to encode, `[1, 3, height, width]` each."""
        return self._stages.images_to_encode(self.request, self.prepared)

    def encode(self) -> Iterator[None]:
        """Encode prompts and images and draw the first noise, in pieces.

        Raises:
            InputError: A prompt cannot be encoded, or the caller's latents do not fit.
            EngineError: An engine failed.
        """
        self.enter(Stage.ENCODING)
        return self._encode()

    def _encode(self) -> Iterator[None]:
        with self.clock.stage("prompts"):
            self._contexts = contexts = self.encode_prompts()
        encoded: list[LatentDistribution] = []
        for index, image in enumerate(self.images_to_encode()):
            yield
            with self.clock.stage("image_encode"):
                encoded.append(self.encode_image(index, image))
        with self.clock.stage("image_encode"):
            self.entries = self._stages.start(self.request, self.prepared, self.table, contexts, encoded)
        self.enter(Stage.READY)

    def encode_prompts(self) -> Contexts:
        """Encode all prompts. For `encode`; a server counts its cache's hits here."""
        return self._stages.encode_prompts(self.request)

    def encode_image(self, index: int, image: Floats) -> LatentDistribution:
        """Encode one of `images_to_encode`. For `encode`; a server looks into its cache first."""
        del index
        return self.vae.encode(image)

    @property
    def rows(self) -> int:
        """The maximum number of UNet rows that a step of one result needs."""
        return self.entries[0].program.contexts

    @property
    def in_slots(self) -> int:
        """How many results are in slots."""
        return len(self.steps_done) - len(self.waiting) - len(self.latents)

    @property
    def progress(self) -> int:
        """Steps done, the mean over all results."""
        return sum(self.steps_done) // len(self.steps_done)

    @property
    def denoised(self) -> bool:
        """Whether all results have done all steps."""
        return len(self.latents) == len(self.steps_done)

    def decode(self) -> Iterator[None]:
        """Decode the latents, in pieces, unless the request asks for latents.

        Results are decoded one by one. On two CPU cores a run of eight images of 128 x 128 took 10 to 20 %
        less time for each, which is 2 % of a request, and would hold up the steps of others for eight times
        as long.

        Raises:
            EngineError: The VAE's decoder failed.
        """
        self.enter(Stage.DECODING)
        return self._decode()

    def _decode(self) -> Iterator[None]:
        if self.request.options["output_type"] == "latent":
            return
        for result in range(len(self.steps_done)):
            if result:
                yield
            with self.clock.stage("image_decode"):
                self._decoded.append(self.vae.decode(self.latents[result]))

    def paste(self) -> list[Image.Image] | Floats:
        """The results, in the type that the request asks for. Runs no engine.

        Raises:
            ParameterError: The request asks for latents, and there is nothing to repaint.
            EngineRunError: A decoded image is not finite.
        """
        self.enter(Stage.PASTING)
        if self.unchanged:
            return untouched(self.request, self.prepared)
        if self.request.options["output_type"] == "latent":
            return np.stack([self.latents[result] for result in range(len(self.steps_done))])
        with self.clock.stage("paste"):
            return results(self.request, self.prepared, self._decoded)

    @property
    def preview_vae(self) -> Vae:
        """What decodes previews: the bundle's fastest VAE."""
        return self._stages.vaes.for_previews

    def decode_estimates(
        self, vae: Vae, estimates: Mapping[int, Floats], decoded: MutableMapping[int, Floats]
    ) -> Iterator[None]:
        """Decode the newest estimates of results for a preview, in pieces.

        Args:
            vae: Decodes them.
            estimates: From `Batch.estimates`.
            decoded: Where they go, `[3, height, width]` each.

        Raises:
            EngineError: The VAE's decoder failed.
        """
        for result, latents in estimates.items():
            if decoded:
                yield
            decoded[result] = vae.decode(latents)

    def paste_estimates(self, decoded: Mapping[int, Floats]) -> list[Image.Image]:
        """The preview of each result; before its first step it is the image itself. Runs no engine.

        Raises:
            EngineRunError: A decoded image is not finite.
        """
        previews = []
        for result, index in enumerate(self.request.image_indices):
            prepared = self.prepared[index]
            begun = result in decoded
            previews.append(paste_back(prepared, decoded[result]) if begun else prepared.original.copy())
        return previews

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the caller should know."""
        of_images = dict.fromkeys(warning for prepared in self.prepared for warning in prepared.warnings)
        return (*of_images, *(() if self._contexts is None else self._contexts.warnings))


FlowT = TypeVar("FlowT", bound=Flow)


class SlotAssignment(NamedTuple, Generic[FlowT]):
    """One result of a flow, which has a slot."""

    flow: FlowT
    result: int


class Batch(Generic[FlowT]):
    """Results that share steps, those of one flow or of many.

    Args:
        slots: Their slots.

    Attributes:
        slots: Their slots.
        assignments: Which result has which slot.
    """

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.assignments: dict[int, SlotAssignment[FlowT]] = {}

    def join(self, flow: FlowT) -> None:
        """Assign a slot to the next waiting result of a flow."""
        result = flow.waiting[0]
        slot = self.slots.join(*flow.entries[result])
        self.assignments[slot] = SlotAssignment(flow, flow.waiting.popleft())

    def leave(self, slot: int) -> Floats:
        """Free a slot, finished or not, and return its latents `[channels, h, w]`."""
        del self.assignments[slot]
        return self.slots.leave(slot)

    def step(self) -> list[FlowT]:
        """Advance every result by one step, and take the latents of those that have done their last.

        Returns:
            Flows of which a result had predictions that were not finite; on a device it is known after its
            last step. It keeps its slot.

        Raises:
            EngineError: The engine failed.
        """
        finished = self.slots.step()
        nonfinite = self.slots.nonfinite()
        for flow, result in self.assignments.values():
            flow.steps_done[result] += 1
        for slot in set(finished).difference(nonfinite):
            flow, result = self.assignments[slot]
            flow.latents[result] = self.leave(slot) * np.float32(flow.table.final_scale)
        return list(dict.fromkeys(self.assignments[slot].flow for slot in nonfinite))

    def estimates(self, flow: FlowT) -> dict[int, Floats]:
        """The newest estimate `[channels, h, w]` of the final latents of each result that has begun."""
        estimates = dict(flow.latents)
        for slot, (owner, result) in self.assignments.items():
            if owner is flow:
                estimates[result] = self.slots.denoised(slot)
        return estimates


class MicroBatches:
    """The steps of one flow alone, for as many results at a time as the engine takes.

    Args:
        step: Computes a step of all slots.
        flow: Encoded.
        row_buckets: Numbers of rows to pad a step to; None for exactly as many as there are.

    Attributes:
        total: How many steps there are, those of all micro-batches together.
    """

    def __init__(self, step: Step, flow: Flow, row_buckets: Sequence[int] | None) -> None:
        self._flow = flow
        self._size = micro_batch_size(step, flow.entries, row_buckets)
        self._batch = Batch[Flow](open_slots(step, flow.entries, self._size, row_buckets))
        self.total = -(-len(flow.entries) // self._size) * flow.table.rows

    @property
    def clock(self) -> Clock:
        """The clock of what computes the steps."""
        return self._batch.slots.clock

    def step(self) -> None:
        """Do one step of the present micro-batch, or the first of the next.

        Raises:
            EngineError: The engine failed, or a result had predictions that were not finite.
        """
        if not self._batch.assignments:
            for _ in range(min(self._size, len(self._flow.waiting))):
                self._batch.join(self._flow)
        if self._batch.step():
            raise nonfinite_error()

    def estimates(self) -> dict[int, Floats]:
        """The newest estimate of the final latents of each result that has begun."""
        return self._batch.estimates(self._flow)
