"""`inpaintrt bench mask`."""

from __future__ import annotations

from pathlib import Path

import click

from inpaintrt.cli.options import bundle_option
from inpaintrt_bench.commands.options import output_option

__all__ = ["mask"]

_PERCENT = 100


@click.command()
@bundle_option
@click.option("--width", type=click.IntRange(min=64), default=4000, show_default=True, help="Of the picture.")
@click.option(
    "--height", type=click.IntRange(min=64), default=3000, show_default=True, help="Of the picture."
)
@click.option(
    "--share",
    "shares",
    type=click.FloatRange(0, 78, min_open=True),
    multiple=True,
    default=(1, 5, 20, 60),
    show_default=True,
    help="Percentage of the picture that the mask covers; may be repeated.",
)
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Of the sampler.")
@click.option("--repeats", type=click.IntRange(min=1), default=7, show_default=True, help="Counted runs.")
@output_option
def mask(
    bundle: str,
    width: int,
    height: int,
    shares: tuple[float, ...],
    steps: int,
    repeats: int,
    output: Path | None,
) -> None:
    """What a large picture costs against the area of its mask: time of each stage, and memory."""
    from inpaintrt_bench.isolation import run_alone
    from inpaintrt_bench.mask import measure_mask
    from inpaintrt_bench.reporting import hand_out, make_report

    rows = []
    for share in shares:
        click.echo(f"painting {share:g} % of {width} x {height}", err=True)
        rows.append(
            run_alone(measure_mask, bundle, (width, height), share / _PERCENT, steps=steps, repeats=repeats)
        )
    report = make_report("mask", rows, {"bundle": bundle, "width": width, "height": height, "steps": steps})
    hand_out(report, output)
