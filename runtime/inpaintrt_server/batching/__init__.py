"""Step-level continuous batching: requests join and leave between the steps of one engine."""

from inpaintrt_server.batching.admission import Permit
from inpaintrt_server.batching.events import (
    Event,
    Failed,
    Finished,
    JobTimings,
    Listener,
    NullObserver,
    Observer,
    Started,
    Stepped,
)
from inpaintrt_server.batching.loras import NO_LORAS, LoraChoice, LoraFiles
from inpaintrt_server.batching.scheduler import Mode
from inpaintrt_server.batching.service import BatchingService, BatchingSettings, Snapshot
from inpaintrt_server.batching.task import Job

__all__ = [
    "NO_LORAS",
    "BatchingService",
    "BatchingSettings",
    "Event",
    "Failed",
    "Finished",
    "Job",
    "JobTimings",
    "Listener",
    "LoraChoice",
    "LoraFiles",
    "Mode",
    "NullObserver",
    "Observer",
    "Permit",
    "Snapshot",
    "Started",
    "Stepped",
]
