"""The subcommands of `inpaintrt` that make bundles. Nothing heavy is imported before one of them runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Column, Table

from inpaintrt.bundle import PRECISIONS, Precision, PredictionType, load_manifest
from inpaintrt.lora import parse_lora
from inpaintrt_export.builds.command import build

if TYPE_CHECKING:
    from inpaintrt_export.progress import Progress

__all__ = ["register"]

_PATH = click.Path(path_type=Path)

_output_option = click.option(
    "--output", "-o", type=_PATH, required=True, help="Folder of the bundle to write."
)
_cache_option = click.option("--cache-dir", type=_PATH, help="Folder of downloads.")
_offline_option = click.option(
    "--offline", "local_files_only", is_flag=True, help="Use what was downloaded before."
)
_pickle_option = click.option(
    "--allow-pickle", is_flag=True, help="Read pickled weights, which can execute code."
)
_revision_option = click.option("--revision", help="Branch, tag or commit on the Hub.")
_token_option = click.option("--token", help="Token for a private repository on the Hub.")
_variant_option = click.option("--variant", help="Variant of the weights, e.g. fp16.")
_force_option = click.option("--force", is_flag=True, help="Replace an older bundle in that folder.")
_tokenizer_option = click.option(
    "--tokenizer", type=_PATH, help="Folder of a CLIP tokenizer, where the checkpoint has none."
)


def register(app: click.Group) -> None:
    """Add `export`, `add-tiny-vae`, `add-step-cache`, `build` and `import-onnx` to the command line."""
    for command in (export, add_tiny_vae, add_step_cache, build, import_onnx):
        app.add_command(command)


@click.command()
@click.argument("source")
@_output_option
@click.option(
    "--precision",
    type=click.Choice(tuple(PRECISIONS)),
    default="fp32",
    show_default=True,
    help="fp32 for CPUs, fp16 for GPUs.",
)
@_revision_option
@_token_option
@_cache_option
@_offline_option
@_variant_option
@_pickle_option
@_tokenizer_option
@click.option(
    "--prediction-type",
    type=click.Choice(get_args(PredictionType)),
    help="What the UNet predicts, if the checkpoint does not say so: "
    "single files of SD 2.x are taken for v_prediction.",
)
@click.option(
    "--lora",
    "loras",
    multiple=True,
    metavar="FILE[:SCALE]",
    help="A LoRA that changes the weights first, and how much, e.g. style.safetensors:0.8; may be repeated.",
)
@click.option(
    "--tiny-vae",
    metavar="VAE",
    help="An AutoencoderTiny as a second, faster VAE, for previews and for requests that ask for it: "
    "a folder, owner/name on the Hub such as madebyollin/taesd, or synthetic:taesd.",
)
@click.option(
    "--step-cache",
    is_flag=True,
    help="Also write what requests with a cache interval need (DeepCache): most evaluations of the UNet may "
    "then be shallow ones.",
)
@click.option("--seed", default=0, show_default=True, help="Of a synthetic checkpoint's weights.")
@_force_option
def export(
    source: str,
    output: Path,
    precision: Precision,
    revision: str | None,
    token: str | None,
    cache_dir: Path | None,
    local_files_only: bool,
    variant: str | None,
    allow_pickle: bool,
    tokenizer: Path | None,
    prediction_type: PredictionType | None,
    loras: tuple[str, ...],
    tiny_vae: str | None,
    step_cache: bool,
    seed: int,
    force: bool,
) -> None:
    """Turn a checkpoint into a bundle, and compare every network with PyTorch.

    SOURCE is a diffusers folder, owner/name on the Hub, a .safetensors file, or
    synthetic:NAME (sd15, sd15-inpaint, sd2, sd2-base, sd2-inpaint, tiny, tiny-text-to-image).
    """
    from inpaintrt_export.exporter import export_bundle

    with _progress_bar() as progress:
        folder = export_bundle(
            source,
            output,
            precision=precision,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            variant=variant,
            allow_pickle=allow_pickle,
            tokenizer=tokenizer,
            prediction_type=prediction_type,
            loras=[parse_lora(text) for text in loras],
            tiny_vae=tiny_vae,
            step_cache=step_cache,
            force=force,
            progress=progress,
            seed=seed,
        )
    _report(folder)


@click.command("add-tiny-vae")
@click.argument("bundle")
@click.argument("source")
@_revision_option
@_token_option
@_cache_option
@_offline_option
@_variant_option
@_pickle_option
@click.option("--seed", default=0, show_default=True, help="Of synthetic weights.")
def add_tiny_vae(
    bundle: str,
    source: str,
    revision: str | None,
    token: str | None,
    cache_dir: Path | None,
    local_files_only: bool,
    variant: str | None,
    allow_pickle: bool,
    seed: int,
) -> None:
    """Add an AutoencoderTiny to BUNDLE as a second, faster VAE, and compare it with PyTorch.

    SOURCE is a folder with config.json and weights, owner/name on the Hub such as madebyollin/taesd (for XL
    madebyollin/taesdxl), or synthetic:taesd. BUNDLE is a name in the engine store, or a path.
    """
    from inpaintrt_export.sources import SourceOptions
    from inpaintrt_export.tiny_vae import add_tiny_vae as run

    options = SourceOptions(
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        variant=variant,
        allow_pickle=allow_pickle,
        seed=seed,
    )
    with _progress_bar() as progress:
        folder = run(bundle, source, options, progress=progress)
    _report(folder)


@click.command("add-step-cache")
@click.argument("bundle")
@click.option(
    "--cache-branch-id",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Where the UNet is cut, as in DeepCache: how many layers of its last block a shallow evaluation "
    "computes besides the last one. More cost more time, and change images less.",
)
def add_step_cache(bundle: str, cache_branch_id: int) -> None:
    """Add step caching (DeepCache) to BUNDLE, for requests with a cache interval.

    Nothing is traced again, so the checkpoint is not needed. Plans, and variants for onnxruntime-cuda, have
    to be built again. BUNDLE is a name in the engine store, or a path.
    """
    from inpaintrt_export.step_cache import add_step_cache as run

    with _progress_bar() as progress:
        folder = run(bundle, cache_branch_id=cache_branch_id, progress=progress)
    _report(folder)


@click.command("import-onnx")
@click.argument("folder", type=_PATH)
@_output_option
@_tokenizer_option
@_force_option
def import_onnx(folder: Path, output: Path, tokenizer: Path | None, force: bool) -> None:
    """Make a bundle of the ONNX files in FOLDER, laid out as optimum exports them."""
    from inpaintrt_export.onnx_import import import_onnx as run

    with _progress_bar() as progress:
        bundle = run(folder, output, tokenizer=tokenizer, force=force, progress=progress)
    _report(bundle)


@contextlib.contextmanager
def _progress_bar() -> Iterator[Progress]:
    """A bar on standard error; the libraries' own bars are off meanwhile."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=1.0)

        def report(stage: str, fraction: float | None) -> None:
            bar.update(task, description=stage, completed=fraction)

        yield report


def _report(folder: Path) -> None:
    """Put the comparison with PyTorch on standard error, and the bundle's folder on standard output."""
    component = Column("component", no_wrap=True, min_width=len("tiny_vae_decoder"))
    table = Table(component, "precision", "case", "largest error", "relative error")
    for name, exported in load_manifest(folder).exported.items():
        for parity in exported.parity:
            figures = f"{parity.max_absolute_error:.1e}", f"{parity.relative_error:.1e}"
            table.add_row(name, exported.precision, parity.case, *figures)
    if table.row_count:
        Console(stderr=True).print(table)
    click.echo(folder)
