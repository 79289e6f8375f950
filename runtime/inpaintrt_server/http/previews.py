"""After which steps to show previews."""

from __future__ import annotations

from inpaintrt.bundle import Manifest
from inpaintrt.request import Request
from inpaintrt.samplers import compile_table

__all__ = ["preview_steps"]


def preview_steps(manifest: Manifest, request: Request, count: int) -> frozenset[int]:
    """Steps that divide a run into `count + 1` parts of about the same length; fewer in a short run.

    Raises:
        ParameterError: An option of the sampler is out of its range.
        SchedulerError: The sampler is unknown.
    """
    if count == 0:
        return frozenset()
    options = request.options
    total = compile_table(
        manifest.scheduler,
        options["scheduler"],
        options["num_inference_steps"],
        strength=request.strength,
        eta=options["eta"],
    ).rows
    steps = {round(total * part / (count + 1)) for part in range(1, count + 1)}
    return frozenset(step for step in steps if 0 < step < total)
