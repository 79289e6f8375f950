"""After which steps to show previews."""

from __future__ import annotations

from inpaintrt.request import Request
from inpaintrt.stages import Stages

__all__ = ["preview_steps"]


def preview_steps(stages: Stages, request: Request, count: int) -> frozenset[int]:
    """Steps that divide a run into `count + 1` parts of about the same length; fewer in a short run.

    Raises:
        ParameterError: An option of the sampler is out of its range.
        SchedulerError: The sampler is unknown.
    """
    if count == 0:
        return frozenset()
    total = stages.compile(request).rows
    steps = {round(total * part / (count + 1)) for part in range(1, count + 1)}
    return frozenset(step for step in steps if 0 < step < total)
