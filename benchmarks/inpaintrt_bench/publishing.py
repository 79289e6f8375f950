"""`inpaintrt bench report`: from a folder of results to the tables and plots that people see.

Tables are in blocks of Markdown documents: between `<!-- bench:NAME -->` and `<!-- /bench -->`, where NAME
is the name of a report, or of another view of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import msgspec

from inpaintrt.errors import InpaintError
from inpaintrt_bench.measurements.build import build_table
from inpaintrt_bench.measurements.coldstart import coldstart_table
from inpaintrt_bench.measurements.compare import compare_table, draw_stages
from inpaintrt_bench.measurements.footprint import footprint_table
from inpaintrt_bench.measurements.hostile import hostile_table
from inpaintrt_bench.measurements.ladder_report import draw_ladder, ladder_table
from inpaintrt_bench.measurements.latency import latency_table
from inpaintrt_bench.measurements.mask import draw_masks, mask_table
from inpaintrt_bench.measurements.memory import memory_table
from inpaintrt_bench.measurements.overhead import overhead_table
from inpaintrt_bench.measurements.quality_report import draw_quality, quality_table
from inpaintrt_bench.measurements.serve import serve_table
from inpaintrt_bench.measurements.size import size_table
from inpaintrt_bench.measurements.soak import soak_table
from inpaintrt_bench.report.files import load_report
from inpaintrt_bench.report.markdown import Table, origin, stages_table, work_table
from inpaintrt_bench.report.plotting import Plot, draw_latencies, read_source, save_figure
from inpaintrt_bench.report.schema import Kind, Report

__all__ = [
    "PLOTS",
    "TABLES",
    "VIEWS",
    "BlockError",
    "Publication",
    "Results",
    "StaleError",
    "block_names",
    "check_publication",
    "fill_blocks",
    "load_results",
    "publish",
    "render_block",
    "report",
]

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_OPENING = re.compile(r"<!-- bench:(?P<name>[\w:.-]+) -->")
_CLOSING = "<!-- /bench -->"
_BLOCK = re.compile(
    rf"(?P<opening>{_OPENING.pattern})(?P<content>.*?)(?P<closing>{re.escape(_CLOSING)})", re.DOTALL
)

TABLES: Mapping[Kind, Table] = {
    "compare": compare_table,
    "latency": latency_table,
    "coldstart": coldstart_table,
    "overhead": overhead_table,
    "size": size_table,
    "build": build_table,
    "mask": mask_table,
    "quality": quality_table,
    "ladder": ladder_table,
    "serve": serve_table,
    "hostile": hostile_table,
    "soak": soak_table,
    "memory": memory_table,
    "footprint": footprint_table,
}
"""The main table of each kind of report."""

VIEWS: Mapping[str, Table] = {"stages": stages_table, "work": work_table, "origin": origin}
"""Further views of any report."""

PLOTS: Mapping[Kind, Mapping[str, Plot]] = {
    "compare": {"stages": draw_stages, "latency": draw_latencies},
    "latency": {"latency": draw_latencies},
    "coldstart": {"latency": draw_latencies},
    "mask": {"mask": draw_masks},
    "quality": {"pareto": draw_quality},
    "ladder": {"ladder": draw_ladder},
    "serve": {"latency": draw_latencies},
}
"""The plots of each kind of report, by the end of their files' names."""


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

    A table is between `<!-- bench:NAME -->` and `<!-- /bench -->`; NAME is the name of a file of FOLDER
    without .json. NAME:stages is a table of stages, NAME:work one of counted operations, and NAME:origin
    tells what was measured, when and on what.
    """
    results, publication = load_results(folder), Publication(documents, plots)
    if check:
        check_publication(results, publication)
        return
    for path in publish(results, publication):
        click.echo(path)


class BlockError(InpaintError):
    """A document's blocks cannot be filled."""


def block_names(text: str) -> list[str]:
    """The names of a document's blocks, in order.

    Raises:
        BlockError: A marker has no partner.
    """
    blocks = list(_BLOCK.finditer(text))
    openings, closings = len(_OPENING.findall(text)), text.count(_CLOSING)
    if not len(blocks) == openings == closings:
        raise BlockError(
            "the markers of the blocks do not pair up",
            received=f"{openings} opening and {closings} closing markers",
            expected=f"<!-- bench:NAME --> ... {_CLOSING}, not one within another",
        )
    return [block["name"] for block in blocks]


def fill_blocks(text: str, render: Callable[[str], str]) -> str:
    """The document with the content of every block replaced.

    Args:
        text: Markdown.
        render: Gives the content for a block's name.

    Raises:
        BlockError: A marker has no partner.
    """
    block_names(text)
    return _BLOCK.sub(lambda block: f"{block['opening']}\n{render(block['name'])}\n{block['closing']}", text)


class StaleError(InpaintError):
    """Documents or plots are not those of the data."""


@dataclass(frozen=True)
class Publication:
    """What is made of results, and where.

    Attributes:
        documents: Markdown files with blocks.
        plots: Folder of the plots.
    """

    documents: Sequence[Path]
    plots: Path


@dataclass(frozen=True)
class Results:
    """The reports of a folder.

    Attributes:
        reports: By the names of their files, without `.json`.
        digests: SHA-256 of the files.
    """

    reports: Mapping[str, Report]
    digests: Mapping[str, str]


def load_results(folder: Path) -> Results:
    """Read every report of a folder; other JSON files are passed over.

    Raises:
        ReportFormatError: A report is of another version, or damaged.
    """
    paths = [path for path in sorted(folder.glob("*.json")) if _is_report(path)]
    return Results(
        reports={path.stem: load_report(path) for path in paths},
        digests={path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
    )


def _is_report(path: Path) -> bool:
    try:
        content = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError:
        return False
    return isinstance(content, dict) and "format_version" in content


def render_block(results: Results, name: str) -> str:
    """A block's content.

    Args:
        results: What there is.
        name: The name of a report for its main table; or, behind a colon, of another view of it.

    Raises:
        BlockError: There is no such report or view.
    """
    stem, _, view = name.partition(":")
    report = results.reports.get(stem)
    if report is None:
        raise BlockError(
            "there is no report for a block",
            received=f"bench:{name}",
            expected=", ".join(results.reports) or "a folder with reports",
            hint="measure it with `inpaintrt bench`, or take the block out of the document",
        )
    tables = {"": TABLES.get(report.kind), **VIEWS}
    table = tables.get(view)
    if table is None:
        raise BlockError(
            "a report has no such table",
            received=f"bench:{name}, of a report of kind {report.kind}",
            expected=", ".join(f"{stem}:{view}" if view else stem for view in tables),
        )
    return table(report)


def publish(results: Results, publication: Publication) -> list[Path]:
    """Fill the blocks of the documents, and draw all plots.

    Returns:
        The files that were written: documents that changed, and every plot.

    Raises:
        BlockError: A block cannot be filled.
    """
    texts = {path: _filled(results, path) for path in publication.documents}
    changed = [path for path, text in texts.items() if text != path.read_text()]
    publication.plots.mkdir(parents=True, exist_ok=True)
    plots = _plot_files(results, publication)
    for path, (stem, kind_of_plot) in plots.items():
        report = results.reports[stem]
        save_figure(PLOTS[report.kind][kind_of_plot](report), path, results.digests[stem])
    for path in changed:
        path.write_text(texts[path])
    return [*changed, *plots]


def check_publication(results: Results, publication: Publication) -> None:
    """Compare the documents and the plots with the data.

    Raises:
        StaleError: Some of them were made of other data.
        BlockError: A block cannot be filled.
    """
    stale = [path for path in publication.documents if _filled(results, path) != path.read_text()]
    stale += [
        path
        for path, (stem, _) in _plot_files(results, publication).items()
        if read_source(path) != results.digests[stem]
    ]
    if stale:
        raise StaleError(
            "documents or plots are not those of the data",
            received=", ".join(map(str, stale)),
            hint="run `inpaintrt bench report`",
        )


def _filled(results: Results, document: Path) -> str:
    return fill_blocks(document.read_text(), partial(render_block, results))


def _plot_files(results: Results, publication: Publication) -> dict[Path, tuple[str, str]]:
    """Report and plot by the file that the plot belongs into."""
    return {
        publication.plots / f"{stem}-{name}.png": (stem, name)
        for stem, report in results.reports.items()
        for name in PLOTS.get(report.kind, {})
    }
