"""Denoising of every request in flight: slots hold its state, rows ask the UNet, one step moves them all.

A sampler's step and guidance are linear in the UNet's output, so a step of a whole batch of unrelated
requests is one UNet call between two small matrix products:

    sample     = concat(state[:, 0], condition)[row_slot]
    prediction = UNet(sample, timestep, context)
    guided     = guidance @ prediction
    next_state = update @ (state, guided, noise)

`FusedStep` runs these four lines inside one exported graph, `PlainStep` around a plain UNet. `Slots` plans a
step, rows and matrices; `Turns` brings the results of one request through. State and condition are kept by a
`StepState`, in NumPy or on a device.
"""

from inpaintrt.denoiser.slots import Program, Slots, row_bucket
from inpaintrt.denoiser.steps import FusedStep, HostState, PlainStep, Step, StepInputs
from inpaintrt.denoiser.turns import Entry, Turns

__all__ = [
    "Entry",
    "FusedStep",
    "HostState",
    "PlainStep",
    "Program",
    "Slots",
    "Step",
    "StepInputs",
    "Turns",
    "row_bucket",
]
