"""The models in memory: the bundle itself, and with LoRAs those that were used last."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from inpaintrt.errors import LoraMismatchError, ParameterError, PlanError
from inpaintrt.loading import LoadedBundle
from inpaintrt.stages import Stages
from inpaintrt_server.batching.engine import StepEngine
from inpaintrt_server.batching.events import CommandQueue, Observer
from inpaintrt_server.batching.loras import NO_LORAS, LoraChoice, LoraLibrary
from inpaintrt_server.batching.memory import megabytes
from inpaintrt_server.errors import ModelBusyError, ModelLoadError

__all__ = ["MakeModel", "Model", "Models"]

logger = logging.getLogger("inpaintrt.server")

MakeModel = Callable[[LoraChoice, LoadedBundle], "Model"]


@dataclass(frozen=True, eq=False)
class Model:
    """What runs the requests of one choice of LoRAs.

    Attributes:
        loras: The choice.
        stages: Its stages.
        engine: Its steps.
    """

    loras: LoraChoice
    stages: Stages
    engine: StepEngine

    def close(self, base: Model) -> None:
        """Release the engines that are not those of another model."""
        for name, engine in self.stages.engines.items():
            if engine is not base.stages.engines[name]:
                engine.close()


class Models:
    """Loads models when they are asked for, and drops those that were not used for the longest time.

    All of it belongs to the engine's thread, but `preload` and `close`, before it starts and after its end,
    and what `pool` runs. A model that a request waits for or uses is never dropped.

    Args:
        base: The bundle itself, which always stays.
        library: The LoRAs.
        make: Makes a model of a loaded bundle.
        limit: Bytes that all models but the bundle itself may take.
        commands: How a thread of `pool` reaches the engine's.
        pool: Loads models beside the steps; None to load them between two steps.
        observer: Learns what is loaded and dropped.

    Attributes:
        base: The bundle itself.
        count: How many other models there are.
        nbytes: Bytes that they take.
    """

    def __init__(
        self,
        base: Model,
        library: LoraLibrary,
        *,
        make: MakeModel,
        limit: int,
        commands: CommandQueue,
        pool: Executor | None,
        observer: Observer,
    ) -> None:
        self.base = base
        self.count = self.nbytes = 0
        self._library = library
        self._make = make
        self._limit = limit
        self._commands = commands
        self._pool = pool
        self._observer = observer
        self._resident: OrderedDict[LoraChoice, Model] = OrderedDict()
        self._loading: set[LoraChoice] = set()
        self._failed: dict[LoraChoice, Exception] = {}

    def preload(self) -> None:
        """Load each LoRA alone, so that what cannot be applied is found before there are requests.

        As many stay in memory as the limit allows.

        Raises:
            ParameterError: One needs more memory than the limit.
            LoraError: One cannot be applied.
            EngineError: A component cannot be opened.
        """
        for name in self._library.names:
            choice = self._library.choose_one(name)
            self._make_room(choice, ())
            self._add(choice, *self._open(choice))

    def find(self, choice: LoraChoice, wanted: Collection[LoraChoice]) -> Model | None:
        """The model of a choice; None while it is being loaded, which begins with the first call.

        Args:
            choice: What a request has chosen.
            wanted: The choices of all requests, which have to stay.

        Raises:
            ParameterError: The choice needs more memory than the limit, or cannot be applied.
            ModelBusyError: There is no room for it until other requests are done.
            ModelLoadError: It could not be loaded.
        """
        if choice == NO_LORAS:
            return self.base
        if choice in self._failed:
            raise self._failed[choice]
        if choice in self._resident:
            self._resident.move_to_end(choice)
            return self._resident[choice]
        if choice not in self._loading:
            self._make_room(choice, wanted)
            self._loading.add(choice)
            if self._pool is None:
                self._load(choice)
            else:
                self._pool.submit(self._load, choice)
        return None

    def forget_failures(self) -> None:
        """Let the next request try again, once all that have waited know that loading has failed."""
        self._failed.clear()

    def close(self) -> None:
        """Release every model but the bundle itself."""
        for choice in tuple(self._resident):
            self._remove(choice)

    def _make_room(self, choice: LoraChoice, wanted: Collection[LoraChoice]) -> None:
        needed = self._library.nbytes(choice)
        if needed > self._limit:
            raise ParameterError(
                "the LoRAs need more memory than this server gives them",
                received=f"{choice}, which takes about {megabytes(needed)}",
                expected=f"at most {megabytes(self._limit)}",
                hint="choose fewer at once, or start the server with a larger --lora-memory",
                parameter="lora",
            )
        idle = [resident for resident in self._resident if resident not in wanted]
        free = self._limit - sum(map(self._library.nbytes, (*self._resident, *self._loading)))
        if free + sum(map(self._library.nbytes, idle)) < needed:
            raise ModelBusyError(
                "there is no memory for these LoRAs while requests with others are under way",
                received=f"{choice}, which takes about {megabytes(needed)}",
                expected=f"at most {megabytes(max(free, 0))} at the moment",
            )
        while free < needed:
            oldest = idle.pop(0)
            free += self._library.nbytes(oldest)
            self._remove(oldest)
            self._observer.dropped(oldest.names)
            logger.info("LoRAs dropped", extra={"fields": {"lora": str(oldest)}})

    def _open(self, choice: LoraChoice) -> tuple[Model, float]:
        """A model, and the seconds that it took."""
        started = time.perf_counter()
        model = self._make(choice, self._library.load(choice))
        return model, time.perf_counter() - started

    def _load(self, choice: LoraChoice) -> None:
        try:
            model, seconds = self._open(choice)
        except Exception as error:
            logger.error("LoRAs cannot be loaded", exc_info=error, extra={"fields": {"lora": str(choice)}})
            self._commands.post(partial(self._fail, choice, _as_refusal(choice, error)))
        else:
            self._commands.post(partial(self._add, choice, model, seconds))

    def _fail(self, choice: LoraChoice, error: Exception) -> None:
        self._loading.discard(choice)
        self._failed[choice] = error

    def _add(self, choice: LoraChoice, model: Model, seconds: float) -> None:
        self._loading.discard(choice)
        self._resident[choice] = model
        self._count()
        self._observer.loaded(choice.names, seconds)
        fields = {"lora": str(choice), "seconds": round(seconds, 3), "bytes": self._library.nbytes(choice)}
        logger.info("LoRAs loaded", extra={"fields": fields})

    def _remove(self, choice: LoraChoice) -> None:
        self._resident.pop(choice).close(self.base)
        self._count()

    def _count(self) -> None:
        self.count = len(self._resident)
        self.nbytes = sum(map(self._library.nbytes, self._resident))


def _as_refusal(choice: LoraChoice, error: Exception) -> Exception:
    """Why a choice cannot be had, in words that tell no path of the server.

    Each LoRA was applied alone at the start: what does not fit now does not fit with these weights.
    """
    refusal: Exception = ModelLoadError("the LoRAs cannot be loaded", received=str(choice))
    if isinstance(error, LoraMismatchError | PlanError):
        refusal = ParameterError(
            "these LoRAs cannot be applied with these weights",
            received=str(choice),
            expected="weights for which plans were built"
            if isinstance(error, PlanError)
            else "weights that leave the network's numbers within their type",
            parameter="lora",
        )
    refusal.__cause__ = error
    return refusal
