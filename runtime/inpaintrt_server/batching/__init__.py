"""Step-level continuous batching: requests join and leave between the steps of one engine."""

from inpaintrt_server.batching.jobs import (
    Event,
    Failed,
    Finished,
    Job,
    JobTimings,
    Listener,
    Permit,
    Started,
    Stepped,
)
from inpaintrt_server.batching.observing import Observer, Silent, Snapshot
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.batching.settings import BatchingSettings, Mode

__all__ = [
    "BatchingService",
    "BatchingSettings",
    "Event",
    "Failed",
    "Finished",
    "Job",
    "JobTimings",
    "Listener",
    "Mode",
    "Observer",
    "Permit",
    "Silent",
    "Snapshot",
    "Started",
    "Stepped",
]
