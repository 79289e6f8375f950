"""`inpaintrt bench latency`."""

from __future__ import annotations

from itertools import product
from typing import Any

import click

from inpaintrt_bench.commands.session_options import case_options, parse_size, session_options

__all__ = ["latency"]

_NUMBER = click.IntRange(min=1)


@click.command()
@session_options
@case_options
@click.option("--backend", default="onnxruntime", show_default=True, help="What runs the engines.")
@click.option(
    "--size",
    "sizes",
    multiple=True,
    default=("128x128",),
    show_default=True,
    callback=parse_size,
    help="Width x height to run at; may be repeated.",
)
@click.option("--steps", type=_NUMBER, multiple=True, default=(20,), show_default=True, help="Repeatable.")
@click.option(
    "--batch", "batches", type=_NUMBER, multiple=True, default=(1,), show_default=True, help="Repeatable."
)
@click.option("--sampler", "samplers", multiple=True, help="Repeatable. Default: the checkpoint's own.")
@click.option("--warm-up", type=_NUMBER, default=2, show_default=True, help="Uncounted runs of each case.")
@click.option("--rounds", type=_NUMBER, default=9, show_default=True, help="Counted runs of each case.")
def latency(
    backend: str,
    sizes: tuple[tuple[int, int], ...],
    steps: tuple[int, ...],
    batches: tuple[int, ...],
    samplers: tuple[str, ...],
    warm_up: int,
    rounds: int,
    prompt: str | None,
    guidance: float,
    seed: int,
    **session: Any,  # noqa: ANN401
) -> None:
    """How long one bundle takes on one backend, for every combination of batch, size, steps and sampler."""
    from inpaintrt_bench.latency import measure_latency
    from inpaintrt_bench.runners.catalogue import choose_runners
    from inpaintrt_bench.scenes import make_case
    from inpaintrt_bench.session import SessionSettings, open_session

    settings = SessionSettings(**session)
    (spec,) = choose_runners((f"inpaintrt-{backend}",), settings.device)
    with open_session("latency", settings) as opened:
        cases = [
            make_case(
                opened.scratch,
                width=size[0],
                height=size[1],
                steps=count,
                prompt=prompt,
                guidance_scale=guidance,
                seed=seed,
                batch=batch,
                sampler=sampler,
            )
            for sampler, count, size, batch in product(samplers or (None,), steps, sizes, batches)
        ]
        common: dict[str, Any] = {
            "backend": backend,
            "guidance_scale": guidance,
            "seed": seed,
            "prompt": cases[0].prompt,
        }
        rows = measure_latency(
            spec,
            opened.launcher,
            cases,
            warm_up=warm_up,
            rounds=rounds,
            peak=opened.peak,
            report=lambda some: opened.keep(some, common),
        )
        opened.finish(rows, common)
