"""The subcommands of `inpaintrt` that make bundles. Nothing heavy is imported before one of them runs."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from inpaintrt.bundle import load_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inpaintrt_export.progress import Progress

__all__ = ["register"]

_DEMO_COMMANDS = "inpaintrt_export.demo.commands"

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an older bundle in that folder.")]
Tokenizer = Annotated[
    Path | None, typer.Option(help="Folder of a CLIP tokenizer, where the checkpoint has none.")
]


def register(app: typer.Typer) -> None:
    """Add `export`, `import-onnx` and `demo-checkpoint` to the command line."""
    app.command("export")(export)
    app.command("import-onnx")(import_onnx)
    app.add_typer(importlib.import_module(_DEMO_COMMANDS).app, name="demo-checkpoint")


def export(
    source: Annotated[
        str,
        typer.Argument(
            help="A diffusers folder, owner/name on the Hub, a .safetensors file, synthetic:sd15-inpaint, "
            "synthetic:sd2-inpaint or synthetic:tiny."
        ),
    ],
    output: Output,
    precision: Annotated[
        Literal["fp32", "fp16"], typer.Option(help="fp32 for CPUs, fp16 for GPUs.")
    ] = "fp32",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    token: Annotated[str | None, typer.Option(help="Token for a private repository on the Hub.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="Folder of downloads.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use what was downloaded before.")] = False,
    variant: Annotated[str | None, typer.Option(help="Variant of the weights, e.g. fp16.")] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickled weights, which can execute code.")
    ] = False,
    tokenizer: Tokenizer = None,
    seed: Annotated[int, typer.Option(help="Of a synthetic checkpoint's weights.")] = 0,
    force: Force = False,
) -> None:
    """Turn an inpainting checkpoint into a bundle, and compare every network with PyTorch."""
    from inpaintrt_export.exporter import export_bundle

    with _progress_bar() as progress:
        folder = export_bundle(
            source,
            output,
            precision=precision,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=offline,
            variant=variant,
            allow_pickle=allow_pickle,
            tokenizer=tokenizer,
            force=force,
            progress=progress,
            seed=seed,
        )
    _report(folder)


def import_onnx(
    folder: Annotated[Path, typer.Argument(help="ONNX files, laid out as optimum exports them.")],
    output: Output,
    tokenizer: Tokenizer = None,
    force: Force = False,
) -> None:
    """Make a bundle of ONNX files that others exported."""
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
    table = Table("component", "precision", "case", "largest error", "relative error")
    for name, component in load_manifest(folder).components.items():
        for parity in component.parity:
            figures = f"{parity.max_absolute_error:.1e}", f"{parity.relative_error:.1e}"
            table.add_row(name, component.precision, parity.case, *figures)
    if table.row_count:
        Console(stderr=True).print(table)
    typer.echo(folder)
