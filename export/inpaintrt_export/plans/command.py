"""`inpaintrt build`: plans for a bundle."""

from __future__ import annotations

from typing import get_args

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from inpaintrt.bundle import Plan, PlanBackend, Precision
from inpaintrt.store import find_bundle
from inpaintrt_export.plans.building import BuildReport, build_plans
from inpaintrt_export.plans.settings import BuildSettings, parse_resolution

__all__ = ["build"]

_MEGABYTE = 1e6


@click.command()
@click.argument("bundle")
@click.option(
    "--backend", type=click.Choice(get_args(PlanBackend)), required=True, help="The library to build with."
)
@click.option(
    "--target",
    default="",
    help="GPUs by compute capability, e.g. sm86,sm89,sm120. Default: portable plans with tensorrt-rtx, "
    "this machine's GPU with tensorrt.",
)
@click.option(
    "--resolution",
    default="",
    help="Picture sizes, e.g. 512x512,768x512 (width x height). Default: the native one.",
)
@click.option("--max-batch", default=4, show_default=True, help="Requests that share a step.")
@click.option(
    "--prompt-windows",
    default=1,
    show_default=True,
    help='The longest prompts, in windows of 77 tokens; more than 1 is for long_prompts="windows".',
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="fp16",
    show_default=True,
    help="fp32 is for bundles that compute in fp32.",
)
@click.option("--fresh", is_flag=True, help="Drop the sizes of earlier builds instead of adding to them.")
def build(
    bundle: str,
    backend: PlanBackend,
    target: str,
    resolution: str,
    max_batch: int,
    prompt_windows: int,
    precision: Precision,
    fresh: bool,
) -> None:
    """Compile the networks of BUNDLE for NVIDIA GPUs; tensorrt-rtx needs no GPU for it.

    BUNDLE is a name in the engine store, or a path.
    """
    settings = BuildSettings(
        backend=backend,
        targets=tuple(_split(target)),
        resolutions=tuple(parse_resolution(size) for size in _split(resolution)),
        max_batch=max_batch,
        prompt_windows=prompt_windows,
        precision=precision,
        fresh=fresh,
    )
    _tell(bundle, _build(bundle, settings))


def _build(bundle: str, settings: BuildSettings) -> BuildReport:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=1.0)

        def show(stage: str, fraction: float | None) -> None:
            bar.update(task, description=stage, completed=fraction)

        report = build_plans(bundle, settings, progress=show)
        bar.update(task, description="done", completed=1.0)
    return report


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _tell(bundle: str, report: BuildReport) -> None:
    folder = find_bundle(bundle)
    for plan in report.built:
        click.echo(f"{plan.file} {(folder / plan.file).stat().st_size / _MEGABYTE:.1f} MB{_purpose(plan)}")
    for plan in report.reused:
        click.echo(f"{plan.file} was there already{_purpose(plan)}")


def _purpose(plan: Plan) -> str:
    return f", for {', '.join(plan.targets)}" if plan.targets else ", portable"
