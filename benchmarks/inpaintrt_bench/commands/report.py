"""`inpaintrt bench report`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["report"]

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("folder", type=_FOLDER, default=Path("benchmarks/results"))
@click.option(
    "--document",
    "documents",
    type=_FILE,
    multiple=True,
    default=(Path("README.md"), Path("docs/benchmarks/README.md")),
    show_default=True,
    help="A Markdown file whose blocks are filled; may be repeated.",
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("docs/benchmarks"),
    show_default=True,
    help="Folder of the plots.",
)
@click.option("--check", is_flag=True, help="Write nothing; fail if something is not that of the data.")
def report(folder: Path, documents: tuple[Path, ...], plots: Path, check: bool) -> None:
    """Make the tables of documents, and all plots, of the results in FOLDER.

    A table stands between `<!-- bench:NAME -->` and `<!-- /bench -->`; NAME is the name of a file of FOLDER
    without .json. NAME:stages is a table of stages, NAME:work one of counted operations, and NAME:origin
    tells what was measured, when and on what.
    """
    from inpaintrt_bench.publishing import Publication, load_results, publish
    from inpaintrt_bench.publishing import check as check_publication

    results, publication = load_results(folder), Publication(documents, plots)
    if check:
        check_publication(results, publication)
        return
    for path in publish(results, publication):
        click.echo(path)
