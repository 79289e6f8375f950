"""Runs the GPU tests and writes what they found as JSON: `python tests/gpu/report.py -o report.json`."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from inpaintrt.doctor import examine

__all__ = ["main", "run_tests"]

_FOLDER = Path(__file__).parent


class _Collector:
    """Keeps the outcome of every test and what it has recorded."""

    def __init__(self) -> None:
        self.tests: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.tests.append(
                {
                    "test": report.nodeid.partition("::")[2],
                    "outcome": report.outcome,
                    "seconds": round(report.duration, 3),
                    "measured": dict(report.user_properties),
                    "reason": _reason(report),
                }
            )


def _reason(report: pytest.TestReport) -> str | None:
    if isinstance(report.longrepr, tuple):  # a skip: file, line, reason
        return str(report.longrepr[2])
    return str(report.longrepr).splitlines()[-1] if report.longrepr else None


def run_tests(arguments: list[str]) -> tuple[int, dict[str, Any]]:
    """Run the tests of this folder; pytest's exit status and the report."""
    collector = _Collector()
    status = pytest.main([str(_FOLDER), "-m", "gpu", *arguments], plugins=[collector])
    report = {
        "versions": {name: version(name) for name in ("inpaintrt", "numpy")},
        "python": platform.python_version(),
        "machine": platform.platform(),
        "diagnosis": asdict(examine()),
        "tests": collector.tests,
    }
    return int(status), report


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    options, arguments = parser.parse_known_args()
    status, report = run_tests(arguments)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
