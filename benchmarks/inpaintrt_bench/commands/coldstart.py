"""`inpaintrt bench coldstart`."""

from __future__ import annotations

from typing import Any

import click

from inpaintrt_bench.commands.session_options import case_options, parse_size, session_options

__all__ = ["coldstart"]


@click.command()
@session_options
@case_options
@click.option("--runner", "runners", multiple=True, help="A runner's name; may be repeated. Default: all.")
@click.option(
    "--size", default="128x128", show_default=True, callback=parse_size, help="Width x height to run at."
)
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Of the sampler.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Counted starts.")
def coldstart(
    runners: tuple[str, ...],
    size: tuple[int, int],
    steps: int,
    rounds: int,
    prompt: str | None,
    guidance: float,
    seed: int,
    **session: Any,  # noqa: ANN401
) -> None:
    """From the start of a process to its first picture, files being in the page cache.

    The runners are those of `compare`.
    """
    from inpaintrt_bench.coldstart import measure_cold_starts
    from inpaintrt_bench.runners.catalogue import choose_runners
    from inpaintrt_bench.scenes import make_case
    from inpaintrt_bench.session import SessionSettings, open_session

    settings = SessionSettings(**session)
    specs = choose_runners(runners, settings.device)
    with open_session("coldstart", settings) as opened:
        case = make_case(
            opened.scratch,
            width=size[0],
            height=size[1],
            steps=steps,
            prompt=prompt,
            guidance_scale=guidance,
            seed=seed,
        )
        common = opened.describe(case)
        rows = measure_cold_starts(
            specs, opened.launcher, case, rounds=rounds, report=lambda some: opened.keep(some, common)
        )
        opened.finish(rows, common)
