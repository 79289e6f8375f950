"""Results as JSON, with the machine and the versions that they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from inpaintrt_bench.machine import describe_machine

__all__ = ["write_report"]


def write_report(results: Mapping[str, object], output: Path | None) -> None:
    """Print results, and write them to a file if one is named."""
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": msgspec.to_builtins(describe_machine()),
        "results": results,
    }
    text = json.dumps(report, indent=2)
    click.echo(text)
    if output is not None:
        output.write_text(text + "\n")
