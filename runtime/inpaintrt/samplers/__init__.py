"""Samplers as tables: a scheduler's configuration and a number of steps become one matrix per UNet call."""

from inpaintrt.samplers.compile import compile_table
from inpaintrt.samplers.names import options_of, sampler_names
from inpaintrt.samplers.table import STATE_TENSORS, Init, Table, join

__all__ = ["STATE_TENSORS", "Init", "Table", "compile_table", "join", "options_of", "sampler_names"]
