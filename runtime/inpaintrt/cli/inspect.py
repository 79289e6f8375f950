"""`inpaintrt inspect`, `samplers`, `presets` and `bundles`: what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import click
from rich.console import Console
from rich.table import Column, Table

from inpaintrt.bundle import (
    Build,
    FusedLora,
    Manifest,
    MeasuredQuality,
    TensorSpec,
    load_manifest,
    verify_files,
)
from inpaintrt.presets import PRESETS, Preset
from inpaintrt.quality import qualities_of
from inpaintrt.samplers import sampler_names
from inpaintrt.store import find_bundle, list_bundles

__all__ = ["bundles", "inspect", "presets", "samplers"]

_MEGABYTE = 1e6
_GIGABYTE = 1e9
_WIDTH_OF_FILES = 200


@click.command()
@click.argument("bundle")
def inspect(bundle: str) -> None:
    """Check the files of BUNDLE, a name or a path, and show what is in it."""
    folder = find_bundle(bundle)
    manifest = load_manifest(folder)
    verify_files(manifest, folder)
    console = _wide_console()
    console.print(_summary(manifest, str(folder)))
    console.print(_components(manifest))
    console.print(_parity(manifest))
    console.print(_qualities(manifest))
    for table in (_costs(manifest), _plans(manifest), _variants(manifest), _conversions(manifest)):
        if table.row_count:
            console.print(table)


@click.command()
def samplers() -> None:
    """List the samplers."""
    click.echo("\n".join(sampler_names()))


@click.command()
def presets() -> None:
    """List the presets for few-step checkpoints and LoRAs, with the sources of their numbers."""
    table = Table("preset", "for", "families", "sampler", "steps", "guidance", "more")
    sources = Table("preset", "paper", Column("model card or guide", overflow="fold"), title="sources")
    for preset in PRESETS.values():
        table.add_row(
            preset.name,
            preset.purpose,
            ", ".join(preset.families),
            preset.scheduler or "the checkpoint's own",
            f"{preset.num_inference_steps}{', no other' if preset.exact else ''}",
            f"{preset.guidance_scale:g}",
            _more(preset),
        )
        sources.add_row(preset.name, *preset.sources)
    _wide_console().print(table, sources, sep="\n")


def _more(preset: Preset) -> str:
    """What a preset sets beside sampler, steps and guidance, as options of `inpaintrt run`."""
    parts = []
    if preset.eta is not None:
        parts.append(f"--eta {preset.eta:g}")
    if preset.timestep_spacing is not None:
        parts.append(f"--timestep-spacing {preset.timestep_spacing}")
    if preset.timesteps is not None:
        parts.append(f"--timesteps {','.join(f'{timestep:g}' for timestep in preset.timesteps)}")
    return "\n".join(parts) or "-"


@click.command()
def bundles() -> None:
    """List the bundles in the engine stores."""
    click.echo("\n".join(list_bundles()))


def _wide_console() -> Console:
    """A console that does not break the lines of tables in files and pipes."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_FILES
    return console


def _summary(manifest: Manifest, folder: str) -> Table:
    architecture = manifest.architecture
    table = Table("bundle", manifest.name, show_header=True)
    table.add_row("folder", folder)
    table.add_row("family", manifest.family)
    table.add_row("checkpoint", manifest.checkpoint.id)
    table.add_row("revision", manifest.checkpoint.revision or "-")
    table.add_row("weights", manifest.checkpoint.sha256 or "-")
    if manifest.checkpoint.loras:
        table.add_row("LoRAs", _loras(manifest.checkpoint.loras))
    table.add_row(
        "size", f"{sum(entry.size for entry in manifest.files) / _MEGABYTE:.1f} MB, all files intact"
    )
    table.add_row("native size", " x ".join(map(str, reversed(architecture.native_resolution))))
    if manifest.tiny_vae is not None:
        table.add_row("tiny VAE", manifest.tiny_vae.checkpoint.id)
    table.add_row("prediction", architecture.prediction_type)
    table.add_row("sampler", str(manifest.scheduler.get("_class_name", "-")))
    table.add_row("made by", ", ".join(f"{name} {number}" for name, number in manifest.producer.items()))
    return table


def _loras(loras: Sequence[FusedLora]) -> str:
    return ", ".join(lora.text for lora in loras) or "-"


def _components(manifest: Manifest) -> Table:
    table = Table("component", "precision", "inputs", "outputs")
    for name, build in manifest.exported.items():
        title = f"{name} ({build.form})" if build.form else name
        table.add_row(title, build.precision, _tensors(build.inputs), _tensors(build.outputs))
    return table


def _tensors(specs: Mapping[str, TensorSpec]) -> str:
    return "\n".join(
        f"{name} {spec.dtype} \\[{', '.join(map(str, spec.shape))}]" for name, spec in specs.items()
    )


def _parity(manifest: Manifest) -> Table:
    table = Table("component", "case", "largest difference", "relative error", title="compared with PyTorch")
    for name, build in manifest.exported.items():
        for row in build.parity:
            table.add_row(name, row.case, f"{row.max_absolute_error:.2e}", f"{row.relative_error:.2e}")
    return table


def _costs(manifest: Manifest) -> Table:
    table = Table("part", "seconds", "GB of memory at most, so far", title="what the export took")
    for part, cost in manifest.export_costs.items():
        peak = "-" if cost.peak_bytes is None else f"{cost.peak_bytes / _GIGABYTE:.2f}"
        table.add_row(part, f"{cost.seconds:.1f}", peak)
    return table


def _qualities(manifest: Manifest) -> Table:
    """What the words of `--quality` stand for; documented settings were not measured."""
    header = ("quality", "sampler", "steps", "spacing", "guidance in", "time", "PSNR", "found")
    table = Table(*header, title="quality against speed, beside the exact settings")
    by_word = cast("Mapping[str, MeasuredQuality]", manifest.quality)
    for word, settings in qualities_of(manifest).items():
        start, stop = settings.guidance_interval
        measured = by_word.get(word)
        judged = None if measured is None else measured.judged
        table.add_row(
            word,
            settings.scheduler or "the checkpoint's own",
            str(settings.num_inference_steps),
            settings.timestep_spacing or "-",
            f"{start:g} to {stop:g}",
            "-" if measured is None else f"{measured.time_ratio:.2f} of {measured.exact_steps} exact steps",
            "-" if measured is None else f"{measured.psnr:.1f} dB",
            "-" if judged is None else f"{judged.found:.0%} of {judged.cases}",
        )
    return table


def _plans(manifest: Manifest) -> Table:
    table = Table("plan of", "LoRAs", "backend", "for", "precision", "MB", "profiles")
    for build in manifest.builds:
        if build.profiles:
            backend = f"{build.backend} {build.library}"
            targets = ", ".join(build.targets) or "portable"
            kind = build.component, _loras(build.loras), backend, targets, build.precision
            table.add_row(*kind, _size(manifest, build), _profiles(build))
    return table


def _size(manifest: Manifest, build: Build) -> str:
    size = sum(entry.size for entry in manifest.files if entry.path in build.files)
    return f"{size / _MEGABYTE:.1f}"


def _profiles(plan: Build) -> str:
    """A shape of each profile, which tells image size and batch; of a step, rows and tokens as well."""
    named = "sample" if "sample" in plan.inputs else next(iter(plan.inputs))
    return "\n".join(
        f"{_rows(profile)}{named} {'x'.join(map(str, profile[named]))}" for profile in plan.profiles
    )


def _rows(profile: Mapping[str, tuple[int, ...]]) -> str:
    return "{} rows of {} tokens, ".format(*profile["context"]) if "context" in profile else ""


def _variants(manifest: Manifest) -> Table:
    table = Table("variant of", "backend", "precision", "MB", "fused nodes", "relative error")
    for build in manifest.builds:
        if build.backend is not None and not build.profiles:
            fused = ", ".join(f"{count} x {operator}" for operator, count in build.fused.items()) or "-"
            errors = ", ".join(f"{row.relative_error:.2e}" for row in build.parity)
            size = _size(manifest, build)
            table.add_row(build.component, build.backend, build.precision, size, fused, errors)
    return table


def _conversions(manifest: Manifest) -> Table:
    title = "conversions, compared with the bundle's own networks"
    table = Table(
        "component", "precision", "accepted", "case", "largest difference", "relative error", title=title
    )
    for build in manifest.builds:
        if build.backend is None and build.network_sha256 is not None:
            own = manifest.exported[build.component].precision
            accepted = "yes" if build.accepted else f"no, builds compute in {own}"
            for row in build.parity:
                figures = f"{row.max_absolute_error:.2e}", f"{row.relative_error:.2e}"
                table.add_row(build.component, build.precision, accepted, row.case, *figures)
            if not build.parity:
                table.add_row(build.component, build.precision, accepted, "-", "not finite", "not finite")
    return table
