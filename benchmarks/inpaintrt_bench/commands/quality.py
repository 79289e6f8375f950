"""`inpaintrt bench quality`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from inpaintrt_bench.commands.options import output_option

__all__ = ["quality"]


@click.command()
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    default=("demo",),
    show_default=True,
    help="A bundle of the demo checkpoint; repeat it to compare precisions.",
)
@click.option(
    "--sampler",
    "samplers",
    multiple=True,
    default=("ddim", "euler_a", "dpmpp_2m_karras", "unipc"),
    show_default=True,
    help="A sampler's name; may be repeated.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    multiple=True,
    default=(3, 5, 8, 12, 20, 30),
    show_default=True,
    help="Steps of the sampler; may be repeated.",
)
@click.option(
    "--guidance-until",
    "ends",
    type=click.FloatRange(0, 1),
    multiple=True,
    default=(1.0, 0.6),
    show_default=True,
    help="Part of the run from its beginning in which guidance acts; may be repeated.",
)
@click.option("--cases", type=click.IntRange(min=1), default=50, show_default=True, help="Unseen scenes.")
@output_option
def quality(
    bundles: tuple[str, ...],
    samplers: tuple[str, ...],
    steps: tuple[int, ...],
    ends: tuple[float, ...],
    cases: int,
    output: Path | None,
) -> None:
    """What speed settings do to the demo's pictures: all combinations, judged on the same unseen scenes.

    The judge needs the extra `export`.
    """
    from inpaintrt_bench.quality import all_settings, measure_quality
    from inpaintrt_bench.reporting import hand_out, make_report

    settings = all_settings(bundles, samplers, steps, [(0.0, end) for end in ends])
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{len(settings)} settings, scene by scene", total=cases)
        rows = measure_quality(settings, cases, lambda done: bar.update(task, completed=done))
    notes = ("The table shows the settings that no other beats; the report has all of them.",)
    hand_out(make_report("quality", rows, {"cases": cases}, notes=notes), output)
