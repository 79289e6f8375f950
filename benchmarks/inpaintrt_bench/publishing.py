"""From a folder of results to the tables and plots that people see."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from inpaintrt.errors import InpaintError
from inpaintrt_bench.blocks import BlockError, fill_blocks
from inpaintrt_bench.markdown import TABLES, VIEWS
from inpaintrt_bench.schema import Report, load_report

__all__ = ["Publication", "Results", "StaleError", "check", "load_results", "publish", "render_block"]


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
    """Make the blocks of the documents and all plots anew.

    Returns:
        The files that were written: documents that changed, and every plot.

    Raises:
        BlockError: A block cannot be filled.
    """
    from inpaintrt_bench.plots import PLOTS, save_figure

    texts = {path: _filled(results, path) for path in publication.documents}
    changed = [path for path, text in texts.items() if text != path.read_text()]
    for path in changed:
        path.write_text(texts[path])
    publication.plots.mkdir(parents=True, exist_ok=True)
    plots = _plot_files(results, publication)
    for path, (stem, kind_of_plot) in plots.items():
        report = results.reports[stem]
        save_figure(PLOTS[report.kind][kind_of_plot](report), path, results.digests[stem])
    return [*changed, *plots]


def check(results: Results, publication: Publication) -> None:
    """Compare the documents and the plots with the data.

    Raises:
        StaleError: Some of them were made of other data.
        BlockError: A block cannot be filled.
    """
    from inpaintrt_bench.plots import read_source

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
    from inpaintrt_bench.plots import PLOTS

    return {
        publication.plots / f"{stem}-{name}.png": (stem, name)
        for stem, report in results.reports.items()
        for name in PLOTS.get(report.kind, {})
    }
