"""`inpaintrt bench compare`."""

from __future__ import annotations

from typing import Any

import click

from inpaintrt_bench.commands.session_options import case_options, parse_size, session_options

__all__ = ["compare"]

_ROUNDS = {"cpu": 5, "cuda": 20}


@click.command()
@session_options
@case_options
@click.option("--runner", "runners", multiple=True, help="A runner's name; may be repeated. Default: all.")
@click.option(
    "--size", default="128x128", show_default=True, callback=parse_size, help="Width x height to run at."
)
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Of the sampler.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Pictures at once.")
@click.option("--sampler", help="A sampler's name. Default: the checkpoint's own.")
@click.option("--warm-up", type=click.IntRange(min=1), default=2, show_default=True, help="Uncounted runs.")
@click.option("--rounds", type=click.IntRange(min=1), help="Counted runs of each. Default: 5; 20 on a GPU.")
@click.option("--in-pairs", is_flag=True, help="Keep only the baseline and one other in memory at a time.")
def compare(
    runners: tuple[str, ...],
    size: tuple[int, int],
    steps: int,
    batch: int,
    sampler: str | None,
    warm_up: int,
    rounds: int | None,
    prompt: str | None,
    guidance: float,
    seed: int,
    *,
    in_pairs: bool,
    **session: Any,  # noqa: ANN401
) -> None:
    """Ours beside PyTorch and others: the same work in turns, every picture compared with PyTorch's.

    The runners on a CPU are diffusers (the baseline), inpaintrt-onnxruntime, diffusers-channels-last,
    diffusers-compile, diffusers-max-autotune, optimum and openvino; on a GPU, inpaintrt-onnxruntime-cuda,
    inpaintrt-tensorrt and inpaintrt-tensorrt-rtx stand for ours, and openvino is absent.
    """
    import inpaintrt_bench.compare as measurements
    from inpaintrt_bench.pictures import LIMITS
    from inpaintrt_bench.runners.catalogue import choose_runners
    from inpaintrt_bench.scenes import make_case
    from inpaintrt_bench.session import SessionSettings, open_session
    from inpaintrt_bench.work import add_work

    settings = SessionSettings(**session)
    specs = choose_runners(runners, settings.device)
    limits = LIMITS["float16" if settings.device == "cuda" else "float32"]
    with open_session("compare", settings) as opened:
        case = make_case(
            opened.scratch,
            width=size[0],
            height=size[1],
            steps=steps,
            prompt=prompt,
            guidance_scale=guidance,
            seed=seed,
            batch=batch,
            sampler=sampler,
        )
        comparison = measurements.Comparison(
            case=case,
            warm_up=warm_up,
            rounds=rounds or _ROUNDS[settings.device],
            in_pairs=in_pairs,
            limits=limits,
        )
        common = opened.describe(case)
        rows = measurements.compare(
            specs, opened.launcher, comparison, lambda some: opened.keep(some, common)
        )
        opened.finish(add_work(rows, opened.launcher.bundle, case, opened.peak), common)
