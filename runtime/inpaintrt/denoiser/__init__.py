"""Denoising of every request in flight: slots hold its state, rows ask the UNet, one step moves them all.

A sampler's step and guidance are linear in the UNet's output, so a step of a whole batch of unrelated
requests is one UNet call between two small matrix products, and a gate that keeps what the mask keeps:

    sample     = concat(state[:, 0], condition)[row_slot]
    prediction = UNet(sample, timestep, context)
    guided     = guidance @ prediction
    next       = update @ (state, guided, noise, image_latents, first_noise)
    x          = next[:, 0] where mask >= threshold, else next[:, -1]

`FusedStep` runs these lines inside one exported graph, `PlainStep` around a plain UNet. `Slots` plans a
step, rows and matrices; where an engine takes fewer results than a request has, they step in micro-batches.
What is resident (see `inpaintrt.conditioning`) is kept by a `StepState`, in NumPy or on a device, and so are
the features that step caching (`features.py`) takes from one step to a later one.
"""

from inpaintrt.denoiser.features import shallow_rows
from inpaintrt.denoiser.micro_batches import micro_batch_size, open_slots
from inpaintrt.denoiser.slots import Entry, Program, Slots, nonfinite_error, row_bucket
from inpaintrt.denoiser.steps import FusedStep, HostState, PlainStep, Step

__all__ = [
    "Entry",
    "FusedStep",
    "HostState",
    "PlainStep",
    "Program",
    "Slots",
    "Step",
    "micro_batch_size",
    "nonfinite_error",
    "open_slots",
    "row_bucket",
    "shallow_rows",
]
