"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inpaintrt_server.logs import losses

if TYPE_CHECKING:
    from inpaintrt_server.batching.events import Cache, Outcome, TimingName
    from inpaintrt_server.batching.service import Snapshot

__all__ = ["Metrics"]

_STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_REQUEST_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)


class Metrics:
    """Every figure of one server, in a registry of its own. It is the batching service's observer.

    Args:
        loras: The LoRAs that the server offers, each of which has figures from the start.
    """

    def __init__(self, loras: Sequence[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "inpaintrt_requests", "HTTP requests.", ["api", "status"], registry=self.registry
        )
        self._request_seconds = self._histogram(
            "request_seconds", "From a request's headers to the end of its answer.", _REQUEST_SECONDS, "api"
        )
        self._step_seconds = self._histogram("step_seconds", "One step of all slots.", _STEP_SECONDS)
        self._occupancy = self._histogram(
            "step_row_occupancy", "Rows in use of the rows that a step computes.", _SHARES
        )
        self._rows = Counter("inpaintrt_rows", "Rows of the UNet, padding left out.", registry=self.registry)
        self._stage_seconds = self._histogram(
            "stage_seconds", "The stages of a request.", _STAGE_SECONDS, "stage"
        )
        self._refused = Counter(
            "inpaintrt_refused", "Requests that were not taken in.", ["reason"], registry=self.registry
        )
        self._cache = Counter(
            "inpaintrt_cache_lookups", "Lookups in caches.", ["cache", "result"], registry=self.registry
        )
        self._ended = Counter("inpaintrt_jobs", "Jobs that are over.", ["result"], registry=self.registry)
        self._lora_events = Counter(
            "inpaintrt_lora_events",
            "What happened to each LoRA: a request chose it, or a model with it was loaded or dropped.",
            ["lora", "event"],
            registry=self.registry,
        )
        for lora in loras:
            for event in ("chosen", "loaded", "dropped"):
                self._lora_events.labels(lora, event)
        self._load_seconds = self._histogram(
            "lora_load_seconds", "Loading a model with LoRAs.", _REQUEST_SECONDS
        )
        ProcessCollector(registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"inpaintrt_{name}", about, labels, buckets=buckets, registry=self.registry)

    def step(self, seconds: float, rows: int, bucket: int) -> None:
        """One step of all slots: how long, and how many of the rows were in use."""
        self._step_seconds.observe(seconds)
        self._occupancy.observe(rows / bucket)
        self._rows.inc(rows)

    def stage(self, name: TimingName, seconds: float) -> None:
        """One stage of a request."""
        self._stage_seconds.labels(name).observe(seconds)

    def refused(self, reason: str) -> None:
        """A request that was not taken in; beside the service's reasons, the code of a problem."""
        self._refused.labels(reason).inc()

    def cache(self, name: Cache, *, hit: bool) -> None:
        """A lookup in a cache."""
        self._cache.labels(name, "hit" if hit else "miss").inc()

    def ended(self, outcome: Outcome) -> None:
        """A job that is over."""
        self._ended.labels(outcome).inc()

    def chosen(self, loras: Sequence[str]) -> None:
        """A request that chooses LoRAs."""
        self._count_loras(loras, "chosen")

    def loaded(self, loras: Sequence[str], seconds: float) -> None:
        """A model with LoRAs that is now in memory."""
        self._count_loras(loras, "loaded")
        self._load_seconds.observe(seconds)

    def dropped(self, loras: Sequence[str]) -> None:
        """A model with LoRAs that has made room for another."""
        self._count_loras(loras, "dropped")

    def _count_loras(self, loras: Sequence[str], event: str) -> None:
        for lora in loras:
            self._lora_events.labels(lora, event).inc()

    def count_request(self, api: str, status: int, seconds: float) -> None:
        """An HTTP request that is over."""
        self._requests.labels(api, str(status)).inc()
        self._request_seconds.labels(api).observe(seconds)

    def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        """Show the state of a service; it is asked whenever the figures are read."""
        self.registry.register(_State(snapshot))

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)


class _State(Collector):
    """The state of a service, asked for when the figures are read."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        now = self._snapshot()
        for name, about, value in (
            ("slots", "Slots there are.", now.slots),
            ("slots_active", "Slots that are taken.", now.active),
            ("groups", "Models and image sizes among the active slots.", now.groups),
            ("lora_models", "Models with LoRAs in memory.", now.lora_models),
            ("lora_bytes", "Bytes that models with LoRAs take.", now.lora_bytes),
            ("queue_depth", "Requests that wait for a slot.", now.queued),
            ("places", "Places in the queue and the slots.", now.capacity),
            ("places_taken", "Places that are taken, from admission to the end.", now.outstanding),
            ("ready", "1 if requests are taken in.", int(now.ready)),
            ("draining", "1 if the server is stopping.", int(now.draining)),
            ("engine_lost", "1 if the engine is gone.", int(now.engine_lost)),
        ):
            yield GaugeMetricFamily(f"inpaintrt_{name}", about, value=value)
        yield CounterMetricFamily(
            "inpaintrt_log_lines_lost", "Lines of the log that could not be written.", value=losses.count
        )

    def describe(self) -> Iterator[Metric]:
        """Nothing: the names need not be known before the first reading."""
        return iter(())
