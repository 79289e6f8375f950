"""Engines: one network each, behind one protocol, whatever library runs it."""

from inpaintrt.backends.built import FixedShapes, image_sizes
from inpaintrt.backends.engine import (
    Array,
    Clock,
    Engine,
    KeepsState,
    RowKey,
    StepState,
    UsesHostMemory,
    check_inputs,
)
from inpaintrt.backends.registry import DEFAULT_BACKEND, backend_names, open_engine, open_engines

__all__ = [
    "DEFAULT_BACKEND",
    "Array",
    "Clock",
    "Engine",
    "FixedShapes",
    "KeepsState",
    "RowKey",
    "StepState",
    "UsesHostMemory",
    "backend_names",
    "check_inputs",
    "image_sizes",
    "open_engine",
    "open_engines",
]
