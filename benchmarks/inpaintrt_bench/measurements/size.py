"""`inpaintrt bench size`: how much room an installation takes, in a fresh environment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

import click
import msgspec

from inpaintrt_bench.report.files import hand_out, make_report, output_option
from inpaintrt_bench.report.markdown import (
    MISSING,
    amount,
    table,
    value_of,
    verdict,
)
from inpaintrt_bench.report.schema import Report, Row

__all__ = ["INSTALLATIONS", "Installation", "measure_installation", "package_sizes", "size", "size_table"]

_SOURCE = Path(__file__).parents[3]
_NOT_COUNTED = ("pip", "setuptools")
_TORCH = "torch==2.13.0"
_PACKAGE = "package/"
_LARGEST = 3


@click.command()
@click.option("--only", multiple=True, help="Measure only the installation of this name; may be repeated.")
@output_option
def size(only: tuple[str, ...], output: Path | None) -> None:
    """How much room an installation takes, ours and its peers', each in a fresh environment.

    pip downloads a few gigabytes for all of them.
    """
    names = [installation.name for installation in INSTALLATIONS]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)} is none of {', '.join(names)}", param_hint="--only")
    rows = []
    for installation in INSTALLATIONS:
        if not only or installation.name in only:
            click.echo(f"installing {installation.name}", err=True)
            rows.append(measure_installation(installation))
    hand_out(make_report("size", rows, {}), size_table, output)


@dataclass(frozen=True)
class Installation:
    """Something that inpaints, and what pip is asked for to get it.

    Attributes:
        name: What it is called in tables.
        requirements: As for `pip install`.
        note: What a reader should know of it.
    """

    name: str
    requirements: tuple[str, ...]
    note: str


INSTALLATIONS = (
    Installation("inpaintrt", (f"{_SOURCE}[cpu]",), "with the demo bundle"),
    Installation(
        "diffusers",
        (_TORCH, "diffusers", "transformers", "accelerate"),
        "with PyTorch, whose size depends on the build that pip finds",
    ),
    Installation(
        "optimum-onnx",
        ("optimum-onnx[onnxruntime]", _TORCH, "diffusers"),
        "ONNX Runtime; needs PyTorch and diffusers to run",
    ),
    Installation(
        "optimum-intel",
        ("optimum-intel[openvino]", _TORCH, "diffusers"),
        "OpenVINO; needs PyTorch and diffusers to run",
    ),
    Installation(
        "openvino-genai",
        ("openvino-genai",),
        "OpenVINO; without PyTorch, but needs optimum-intel once for each checkpoint",
    ),
    Installation("openvino", ("openvino",), "OpenVINO's engine library alone, which does not inpaint"),
)
"""What is compared: ours with ONNX Runtime for CPUs, and its peers."""


def measure_installation(installation: Installation) -> Row:
    """Install into an empty environment, and measure what came.

    Returns:
        A row whose `values` are `bytes` of everything and `package/NAME` of each package, the largest first;
        or a failed one with pip's reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        command = [python, "-m", "pip", "install", "--quiet", *installation.requirements]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        row = Row(name=installation.name, notes=(installation.note,))
        if result.returncode:
            return msgspec.structs.replace(row, status="failed", reason=_last_line(result.stderr))
        packages = _packages_of(python)
        sizes = package_sizes(packages)
        return msgspec.structs.replace(
            row,
            values={
                "bytes": sum(sizes.values()),
                **{f"{_PACKAGE}{name}": size for name, size in sizes.items()},
            },
            versions=_versions(packages),
        )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("ERROR:")]
    return lines[-1].removeprefix("ERROR:").strip() if lines else "pip failed"


def _packages_of(python: str) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    result = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return Path(result.stdout.strip())


def _counted(packages: Path) -> list[Distribution]:
    found = distributions(path=[str(packages)])
    return [distribution for distribution in found if distribution.name not in _NOT_COUNTED]


def _versions(packages: Path) -> dict[str, str]:
    return {distribution.name: distribution.version for distribution in _counted(packages)}


def package_sizes(packages: Path) -> dict[str, int]:
    """Bytes of each package of a `site-packages` folder by name, the largest first; pip is left out.

    A package's files are those that its installer recorded, byte code included.
    """
    sizes = {distribution.name: _size(distribution) for distribution in _counted(packages)}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _size(distribution: Distribution) -> int:
    paths = [Path(str(distribution.locate_file(file))) for file in distribution.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file())


def size_table(report: Report) -> str:
    """Every installation: its size, how many packages it has, and the largest of them."""
    rows = [(row.name, *_columns(row), verdict(row) or "; ".join(row.notes)) for row in report.rows]
    return table(("installed", "size", "packages", "the largest", ""), rows)


def _columns(row: Row) -> tuple[str, str, str]:
    packages = [name for name in row.values if name.startswith(_PACKAGE)]
    if not packages:
        return MISSING, MISSING, MISSING
    largest = [f"{name.removeprefix(_PACKAGE)} {amount(value_of(row, name))}" for name in packages[:_LARGEST]]
    return amount(value_of(row, "bytes")), str(len(packages)), ", ".join(largest)
