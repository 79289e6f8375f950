"""`inpaintrt inspect`, `samplers` and `bundles`: what there is."""

from __future__ import annotations

from collections.abc import Mapping

import click
from rich.console import Console
from rich.table import Table

from inpaintrt.bundle import Component, Manifest, Plan, TensorSpec, load_manifest, verify_files
from inpaintrt.samplers import sampler_names
from inpaintrt.store import find_bundle, list_bundles

__all__ = ["bundles", "inspect", "samplers"]

_MEGABYTE = 1e6
_WIDTH_OF_FILES = 200


@click.command()
@click.argument("bundle")
def inspect(bundle: str) -> None:
    """Check the files of BUNDLE, a name or a path, and show what is in it."""
    folder = find_bundle(bundle)
    manifest = load_manifest(folder)
    verify_files(manifest, folder)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_FILES
    console.print(_summary(manifest, str(folder)))
    console.print(_components(manifest))
    console.print(_parity(manifest))
    for rows, table in (
        (manifest.plans, _plans),
        (manifest.variants, _variants),
        (manifest.conversions, _conversions),
    ):
        if rows:
            console.print(table(manifest))


@click.command()
def samplers() -> None:
    """List the samplers."""
    click.echo("\n".join(sampler_names()))


@click.command()
def bundles() -> None:
    """List the bundles in the engine stores."""
    click.echo("\n".join(list_bundles()))


def _summary(manifest: Manifest, folder: str) -> Table:
    architecture = manifest.architecture
    table = Table("bundle", manifest.name, show_header=True)
    table.add_row("folder", folder)
    table.add_row("checkpoint", manifest.checkpoint.id)
    table.add_row("revision", manifest.checkpoint.revision or "-")
    table.add_row("weights", manifest.checkpoint.sha256 or "-")
    table.add_row(
        "size", f"{sum(entry.size for entry in manifest.files) / _MEGABYTE:.1f} MB, all files intact"
    )
    table.add_row("native size", " x ".join(map(str, reversed(architecture.native_resolution))))
    table.add_row("prediction", architecture.prediction_type)
    table.add_row("sampler", str(manifest.scheduler.get("_class_name", "-")))
    table.add_row("made by", ", ".join(f"{name} {number}" for name, number in manifest.producer.items()))
    return table


def _components(manifest: Manifest) -> Table:
    table = Table("component", "precision", "inputs", "outputs")
    for name, component in manifest.components.items():
        table.add_row(_title(name, component), component.precision, *_tensors(component))
    return table


def _title(name: str, component: Component) -> str:
    return f"{name} ({component.form})" if component.form else name


def _tensors(component: Component) -> tuple[str, str]:
    inputs, outputs = (
        "\n".join(_tensor(name, spec) for name, spec in specs.items())
        for specs in (component.inputs, component.outputs)
    )
    return inputs, outputs


def _tensor(name: str, spec: TensorSpec) -> str:
    return f"{name} {spec.dtype} \\[{', '.join(map(str, spec.shape))}]"


def _parity(manifest: Manifest) -> Table:
    table = Table("component", "case", "largest difference", "relative error", title="compared with PyTorch")
    for name, component in manifest.components.items():
        for row in component.parity:
            table.add_row(name, row.case, f"{row.max_absolute_error:.2e}", f"{row.relative_error:.2e}")
    return table


def _plans(manifest: Manifest) -> Table:
    sizes = {entry.path: entry.size for entry in manifest.files}
    table = Table("plan of", "backend", "for", "precision", "MB", "profiles")
    for plan in manifest.plans:
        backend = f"{plan.backend} {plan.library}"
        size = f"{sizes[plan.file] / _MEGABYTE:.1f}"
        targets = ", ".join(plan.targets) or "portable"
        table.add_row(plan.component, backend, targets, plan.precision, size, _profiles(plan))
    return table


def _profiles(plan: Plan) -> str:
    """A shape of each profile, which tells picture size and batch; of a step, rows and tokens as well."""
    named = "sample" if "sample" in plan.inputs else next(iter(plan.inputs))
    return "\n".join(
        f"{_rows(profile)}{named} {'x'.join(map(str, profile[named]))}" for profile in plan.profiles
    )


def _rows(profile: Mapping[str, tuple[int, ...]]) -> str:
    return "{} rows of {} tokens, ".format(*profile["context"]) if "context" in profile else ""


def _variants(manifest: Manifest) -> Table:
    table = Table("variant of", "backend", "precision", "MB", "fused nodes", "relative error")
    for variant in manifest.variants:
        file = variant.network.file
        size = sum(entry.size for entry in manifest.files if entry.path.startswith(file)) / _MEGABYTE
        fused = ", ".join(f"{count} x {operator}" for operator, count in variant.fused.items()) or "-"
        errors = ", ".join(f"{row.relative_error:.2e}" for row in variant.network.parity)
        table.add_row(
            variant.component, variant.backend, variant.network.precision, f"{size:.1f}", fused, errors
        )
    return table


def _conversions(manifest: Manifest) -> Table:
    title = "half precision, compared with the bundle's own networks"
    table = Table(
        "component", "builds compute in", "case", "largest difference", "relative error", title=title
    )
    for conversion in manifest.conversions:
        for row in conversion.parity:
            figures = f"{row.max_absolute_error:.2e}", f"{row.relative_error:.2e}"
            table.add_row(conversion.component, conversion.precision, row.case, *figures)
    return table
