"""`inpaintrt build`: plans for a bundle, or variants of its networks."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from inpaintrt.backends.tensorrt_library import PlanBackend
from inpaintrt.bundle import PRECISIONS, Build, Manifest, Precision, load_manifest
from inpaintrt.errors import ParameterError
from inpaintrt.lora import open_loras, parse_lora
from inpaintrt.store import find_bundle
from inpaintrt_export.builds.plans import build_plans
from inpaintrt_export.builds.settings import BuildSettings, VariantBackend, parse_resolution

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inpaintrt_export.builds.report import BuildReport
    from inpaintrt_export.progress import Progress

__all__ = ["build"]

_MEGABYTE = 1e6
_OF_PLANS = ("target", "resolution", "max_batch", "prompt_windows", "fresh", "loras")
_OF_VARIANTS = ("fused_norms",)
_OF_GPUS = ("fused_norms", "precision")


@click.command()
@click.argument("bundle")
@click.option(
    "--backend",
    type=click.Choice([*get_args(PlanBackend), *get_args(VariantBackend)]),
    required=True,
    help="What the networks are to run on.",
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
    help="Image sizes, e.g. 512x512,768x512 (width x height). Default: the native one.",
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
    type=click.Choice(tuple(PRECISIONS)),
    default="fp16",
    show_default=True,
    help="What the networks compute in. An fp32 bundle can be built in both, an fp16 bundle in fp16.",
)
@click.option("--fresh", is_flag=True, help="Drop the sizes of earlier builds instead of adding to them.")
@click.option(
    "--lora",
    "loras",
    multiple=True,
    metavar="FILE[:SCALE]",
    help="With tensorrt and tensorrt-rtx: a LoRA that changes the weights of these plans, and how much, "
    "e.g. style.safetensors:0.8; may be repeated. The other backends apply LoRAs when a bundle is loaded.",
)
@click.option(
    "--fused-norms",
    is_flag=True,
    help="With onnxruntime-cuda: also fuse group normalisation. The last bits of a result then change from "
    "run to run.",
)
@click.pass_context
def build(
    context: click.Context,
    bundle: str,
    backend: PlanBackend | VariantBackend,
    target: str,
    resolution: str,
    max_batch: int,
    prompt_windows: int,
    precision: Precision,
    fresh: bool,
    loras: tuple[str, ...],
    fused_norms: bool,
) -> None:
    """Prepare the networks of BUNDLE for NVIDIA GPUs, or for CPUs; only tensorrt needs a GPU for it.

    With tensorrt and tensorrt-rtx the networks are compiled. For onnxruntime-cuda, which runs them as they
    are, too, they are written a second time in the form that it runs faster. For onnxruntime, on CPUs, they
    get the form that takes less memory; a float32 export has it already.

    BUNDLE is a name in the engine store, or a path.
    """
    if backend == "onnxruntime":
        _refuse_options(context, backend, (*_OF_PLANS, *_OF_GPUS))
        _report(bundle, _build_variants(bundle, backend, "fp32", fused_norms=False))
        return
    if backend == "onnxruntime-cuda":
        _refuse_options(context, backend, _OF_PLANS)
        _report(bundle, _build_variants(bundle, backend, precision, fused_norms=fused_norms))
        return
    _refuse_options(context, backend, _OF_VARIANTS)
    settings = BuildSettings(
        backend=backend,
        targets=tuple(_split(target)),
        resolutions=tuple(parse_resolution(size) for size in _split(resolution)),
        max_batch=max_batch,
        prompt_windows=prompt_windows,
        precision=precision,
        fresh=fresh,
        loras=open_loras([parse_lora(text) for text in loras]),
    )
    _report(bundle, _build_plans(bundle, settings))


def _refuse_options(context: click.Context, backend: str, names: Sequence[str]) -> None:
    default = click.core.ParameterSource.DEFAULT
    parameters = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    given = [parameters[name] for name in names if context.get_parameter_source(name) != default]
    if given:
        raise ParameterError(
            f"a build for {backend} does not have these options",
            received=", ".join(given),
            hint="leave them out, or name another --backend",
        )


def _build_plans(bundle: str, settings: BuildSettings) -> BuildReport:
    with _progress_bar() as progress:
        return build_plans(bundle, settings, progress=progress)


def _build_variants(
    bundle: str, backend: VariantBackend, precision: Precision, *, fused_norms: bool
) -> BuildReport:
    with _progress_bar() as progress:
        # Only this build waits for ONNX and PyTorch to be imported.
        from inpaintrt_export.builds.variants import build_variants

        return build_variants(
            bundle, backend=backend, precision=precision, fused_norms=fused_norms, progress=progress
        )


@contextlib.contextmanager
def _progress_bar() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=1.0)

        def show(stage: str, fraction: float | None) -> None:
            bar.update(task, description=stage, completed=fraction)

        yield show
        bar.update(task, description="done", completed=1.0)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _report(bundle: str, report: BuildReport) -> None:
    manifest = load_manifest(find_bundle(bundle))
    for build in report.built:
        click.echo(f"{build.file} {_size(manifest, build):.1f} MB, {_purpose(build)}")
    for build in report.reused:
        click.echo(f"{build.file} was there already, {_purpose(build)}")


def _size(manifest: Manifest, build: Build) -> float:
    return sum(entry.size for entry in manifest.files if entry.path in build.files) / _MEGABYTE


def _purpose(build: Build) -> str:
    if build.profiles:
        loras = "".join(f", with {lora.text}" for lora in build.loras)
        return (f"for {', '.join(build.targets)}" if build.targets else "portable") + loras
    fused = "".join(f", {count} x {operator}" for operator, count in build.fused.items())
    return f"{build.precision}{fused}"
