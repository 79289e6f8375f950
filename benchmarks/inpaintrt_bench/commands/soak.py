"""`inpaintrt bench soak`."""

from __future__ import annotations

from pathlib import Path

import click

from inpaintrt.cli.options import bundle_option
from inpaintrt_bench.commands.load_options import load_options, parse_size
from inpaintrt_bench.commands.options import output_option

__all__ = ["soak"]

_SAMPLERS = ("ddim", "euler", "dpmpp_2m", "unipc")


@click.command()
@bundle_option
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True)
@click.option(
    "--window",
    type=click.FloatRange(1),
    default=60.0,
    show_default=True,
    help="Seconds between two looks at the server.",
)
@click.option(
    "--load",
    type=click.FloatRange(0, min_open=True),
    default=0.8,
    show_default=True,
    help="Rate as a fraction of the capacity.",
)
@click.option(
    "--hang-ups",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="The share of clients that go away.",
)
@load_options
@output_option
def soak(
    bundle: str,
    minutes: float,
    window: float,
    load: float,
    hang_ups: float,
    apis: tuple[str, ...],
    sizes: tuple[str, ...],
    fewest_steps: int,
    most_steps: int,
    count: int,
    seed: int,
    server_options: tuple[str, ...],
    output: Path | None,
) -> None:
    """Whether the server's memory stays flat under load for long, and nothing is left behind.

    Exits with status 1 if a request was lost, a picture was wrong, or a slot stayed taken. Results are
    written as they come.
    """
    from inpaintrt_bench.reporting import hand_out, make_report
    from inpaintrt_bench.schema import Scalar, save_report
    from inpaintrt_bench.serve.soak import SoakSettings, run_soak
    from inpaintrt_bench.serve.tasks import make_mixture

    settings = SoakSettings(
        bundle, minutes, window, load, hang_ups=hang_ups, seed=seed, server_options=server_options
    )
    tasks = make_mixture(
        count,
        steps=(fewest_steps, most_steps),
        sizes=[parse_size(size) for size in sizes],
        samplers=_SAMPLERS,
        seed=seed,
    )
    described: dict[str, Scalar | list[Scalar]] = {
        "bundle": bundle,
        "minutes": minutes,
        "load": load,
        "hang_ups": hang_ups,
        "seed": seed,
    }
    report = make_report("soak", (), described)
    for rows in run_soak(settings, tasks, apis, lambda text: click.echo(text, err=True)):
        report = make_report("soak", rows, described)
        if output is not None:
            save_report(report, output)
    hand_out(report, output)
    if any(row.status != "ok" for row in report.rows):
        raise click.exceptions.Exit(1)
