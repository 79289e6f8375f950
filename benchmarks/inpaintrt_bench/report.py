"""Results as JSON, with the machine and the versions that they belong to."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

__all__ = ["describe_machine", "write_report"]

_PACKAGES = ("inpaintrt", "numpy", "Pillow", "onnxruntime", "msgspec")


def describe_machine() -> dict[str, object]:
    """Processor, cores, system, Python and versions of the packages that matter."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: number for name in _PACKAGES if (number := _version(name)) is not None},
    }


def write_report(results: Mapping[str, object], output: Path | None) -> None:
    """Print results, and write them to a file if one is named."""
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(),
        "results": results,
    }
    text = json.dumps(report, indent=2)
    click.echo(text)
    if output is not None:
        output.write_text(text + "\n")


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
