"""A tiny VAE (`AutoencoderTiny`) as the second VAE of a bundle."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from inpaintrt.bundle import (
    TINY_VAE,
    TinyVae,
    describe_file,
    load_manifest,
    save_manifest,
    verify_files,
)
from inpaintrt.errors import SourceError
from inpaintrt.store import find_bundle
from inpaintrt_export.builds.activations import record_activations
from inpaintrt_export.component import ExportedCheckpoint, export_part
from inpaintrt_export.families import FAMILIES
from inpaintrt_export.families.parts import check_vae, latent_scale, part_class, vae_factor
from inpaintrt_export.progress import silent
from inpaintrt_export.sources import SourceOptions
from inpaintrt_export.sources.tiny_vae import open_tiny_vae

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from inpaintrt.bundle import Architecture, Build
    from inpaintrt_export.progress import Progress
    from inpaintrt_export.sources.tiny_vae import TinyVaeSource

__all__ = ["add_tiny_vae", "check_tiny_vae", "write_tiny_vae"]


def add_tiny_vae(
    bundle: str | os.PathLike[str],
    source: str | os.PathLike[str],
    options: SourceOptions | None = None,
    *,
    progress: Progress = silent,
) -> Path:
    """Add a tiny VAE to an exported bundle, in the bundle's precision.

    Its networks are compared with PyTorch. The bundle's other files stay as they are. If the bundle has
    plans, `inpaintrt build` has to make those of the tiny VAE before they can be used again.

    Args:
        bundle: The name of a bundle in the engine store, or a path.
        source: A folder with the `config.json` and the weights of an `AutoencoderTiny`, a Hub id such as
            `madebyollin/taesd`, or `synthetic:taesd`.
        options: How the source is read.
        progress: Called as the work goes on.

    Returns:
        The bundle's folder.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        SourceError: The VAE is missing, incomplete, not an `AutoencoderTiny`, or does not fit the checkpoint;
            or the bundle has one already.
        UnsafeWeightsError: The weights are pickled, and the options do not allow that.
        ParityError: A graph does not compute what PyTorch computes.
    """
    folder = find_bundle(bundle)
    manifest = load_manifest(folder)
    if manifest.tiny_vae is not None:
        raise SourceError(
            f"the bundle {manifest.name!r} already has a tiny VAE",
            received=os.fspath(source),
            expected=f"a bundle without one; this one has {manifest.tiny_vae.checkpoint.id}",
            hint="for another one, export the checkpoint again with --tiny-vae",
        )
    verify_files(manifest, folder)
    tiny_vae = open_tiny_vae(os.fspath(source), options or SourceOptions(), progress)
    check_tiny_vae(tiny_vae.config(), manifest.architecture)
    write_tiny_vae(folder, tiny_vae, progress)
    return folder


def check_tiny_vae(config: Mapping[str, Any], architecture: Architecture) -> None:
    """Check that a tiny VAE decodes the latents of a checkpoint.

    Args:
        config: Its configuration.
        architecture: The checkpoint's.

    Raises:
        SourceError: It is no `AutoencoderTiny`, or its latents have other channels or another size.
    """
    part_class("tiny_vae", config)
    check_vae(config)
    found = config["latent_channels"], vae_factor(config)
    wanted = architecture.latent_channels, architecture.vae_scale_factor
    if found != wanted:
        raise SourceError(
            "the tiny VAE does not fit the checkpoint",
            received="latents with {} channels, 1/{} of the image's size".format(*found),
            expected="latents with {} channels, 1/{} of the image's size".format(*wanted),
            hint="take the tiny VAE of the checkpoint's family: madebyollin/taesd for Stable Diffusion 1.x "
            "and 2.x, madebyollin/taesdxl for XL",
        )


def write_tiny_vae(folder: Path, source: TinyVaeSource, progress: Progress) -> None:
    """Write the components of a tiny VAE into a bundle, then into its manifest, and measure their memory.

    Args:
        folder: A bundle without a tiny VAE.
        source: A tiny VAE that fits the checkpoint.
        progress: Called as the work goes on.

    Raises:
        SourceError: Weights are missing or do not fit the configuration.
        UnsafeWeightsError: There are only pickled weights.
        ParityError: A graph does not compute what PyTorch computes.
    """
    manifest = load_manifest(folder)
    checkpoint = ExportedCheckpoint(
        source, FAMILIES[manifest.family], manifest.architecture, folder, manifest.precision
    )
    try:
        builds = export_part("tiny_vae", checkpoint, lambda stage: progress(stage, None))
        description = TinyVae(checkpoint=source.origin(), latent_scale=latent_scale(source.config()))
        _describe(folder, builds.values(), description)
    except BaseException:
        for name in TINY_VAE:
            shutil.rmtree(folder / name, ignore_errors=True)
        raise
    if manifest.precision == "fp32":  # as for the other components of images
        with tempfile.TemporaryDirectory(prefix=".memory-", dir=folder) as scratch:
            record_activations(folder, Path(scratch), TINY_VAE, progress)


def _describe(folder: Path, builds: Iterable[Build], tiny_vae: TinyVae) -> None:
    manifest = load_manifest(folder)
    added = tuple(builds)
    described = [describe_file(folder, path) for build in added for path in build.files]
    files = sorted([*manifest.files, *described], key=lambda entry: entry.path)
    save_manifest(
        msgspec.structs.replace(
            manifest, builds=(*manifest.builds, *added), files=tuple(files), tiny_vae=tiny_vae
        ),
        folder,
    )
