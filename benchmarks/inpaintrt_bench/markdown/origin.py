"""Where figures come from: machine, versions, day and command."""

from __future__ import annotations

import shlex

from inpaintrt_bench.schema import Machine, Report

__all__ = ["origin"]


def origin(report: Report) -> str:
    """One paragraph: what measured, when, and on what."""
    machine = report.machine
    sentences = [
        f"Measured on {report.date} with `inpaintrt {shlex.join(report.command)}` on {_where(machine)}."
    ]
    if machine.packages:
        versions = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
        sentences.append(f"Python {machine.python}, {versions}.")
    if not report.complete:
        sentences.append("The measurement was cut short.")
    return " ".join([*sentences, *report.notes])


def _where(machine: Machine) -> str:
    cores = "" if machine.cores is None else f"{machine.cores} cores of "
    gpus = [f"{gpu.name} (driver {gpu.driver})" for gpu in machine.gpus]
    return " and ".join([f"{cores}{machine.processor}", *gpus])
