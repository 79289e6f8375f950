"""The export: checkpoint in, bundle out."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from inpaintrt.bundle import ExportCost, number_format
from inpaintrt.lora import open_loras
from inpaintrt_export.builds.variants import build_variants
from inpaintrt_export.component import ExportedCheckpoint, export_part, stages
from inpaintrt_export.families import find_family
from inpaintrt_export.loras import with_loras
from inpaintrt_export.manifest import write_manifest, write_tokenizers
from inpaintrt_export.memory import peak_bytes
from inpaintrt_export.output import check_disk_space, check_output, new_folder
from inpaintrt_export.progress import silent
from inpaintrt_export.size import bundle_bytes
from inpaintrt_export.sources import SourceOptions, open_source
from inpaintrt_export.sources.tiny_vae import open_tiny_vae
from inpaintrt_export.step_cache import write_step_cache
from inpaintrt_export.tiny_vae import check_tiny_vae, write_tiny_vae

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inpaintrt.bundle import Build, Precision, PredictionType
    from inpaintrt.lora import Lora, LoraSource
    from inpaintrt_export.progress import Progress
    from inpaintrt_export.sources.checkpoint import CheckpointSource, Part
    from inpaintrt_export.sources.tiny_vae import TinyVaeSource

__all__ = ["export_bundle"]

_EXPORTED = 0.9
"""The part of the work that is done when all networks are written."""


def export_bundle(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    precision: Precision = "fp32",
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    variant: str | None = None,
    allow_pickle: bool = False,
    tokenizer: str | os.PathLike[str] | None = None,
    prediction_type: PredictionType | None = None,
    loras: Sequence[LoraSource] = (),
    tiny_vae: str | os.PathLike[str] | None = None,
    step_cache: bool = False,
    force: bool = False,
    progress: Progress = silent,
    seed: int = 0,
) -> Path:
    """Turn a checkpoint into a bundle that the runtime runs.

    Every component is compared with PyTorch; the figures are in the bundle's manifest. The bundle appears
    whole or not at all.

    Args:
        source: A diffusers folder, a Hub id `owner/name`, a single-file `.safetensors` checkpoint, or
            `synthetic:NAME`, where NAME is sd15, sd15-inpaint, sd2, sd2-base, sd2-inpaint, sdxl,
            sdxl-inpaint, sdxl-refiner or a tiny one; an unknown name is answered with all of them.
        output: The bundle's folder, which must be empty or not exist.
        precision: "fp32" for CPUs, with graphs beside the networks that take less memory there; "fp16" for
            GPUs: text encoders and UNet compute in half precision, and so does the VAE if a check on this
            checkpoint allows it.
        revision: Branch, tag or commit of a Hub repository.
        token: Token for a private Hub repository; None takes the one that is logged in.
        cache_dir: Folder of downloads; None takes huggingface_hub's.
        local_files_only: Do not go online.
        variant: Variant of the weights, e.g. "fp16" for `model.fp16.safetensors`.
        allow_pickle: Read pickled weights where there are no others; pickles can execute code.
        tokenizer: A folder with a CLIP tokenizer, for checkpoints that bring none.
        prediction_type: What the UNet predicts: "epsilon", "v_prediction" or "sample". None takes what the
            checkpoint says; a single file may not, and then predicts v if it is one of SD 2.x for
            text-to-image, and epsilon otherwise.
        loras: LoRA files, each alone or with a scale, such as `[("style.safetensors", 0.8)]`, that change
            the weights before they are exported, in this order; see docs/lora.md.
        tiny_vae: An `AutoencoderTiny` as the bundle's second VAE, for previews and for requests with
            `vae="tiny"`: a folder, a Hub id such as `madebyollin/taesd`, or `synthetic:taesd`. `revision` and
            `variant` are not for it; see docs/tiny-vae.md.
        step_cache: Also write what requests with a `cache_interval` need; see docs/step-caching.md.
        force: Replace an older bundle.
        progress: Called as the work goes on.
        seed: Of the weights of a synthetic checkpoint and a synthetic tiny VAE.

    Returns:
        The bundle's folder.

    Raises:
        ParameterError: Unknown precision.
        SourceError: The checkpoint is missing, incomplete, or not one of Stable Diffusion 1.x, 2.x or XL; or
            the tiny VAE is not one, or does not fit the checkpoint.
        LoraError: A LoRA cannot be read, or does not fit the checkpoint.
        SchedulerError: No table expresses the checkpoint's scheduler configuration.
        UnsafeWeightsError: The weights are pickled, and `allow_pickle` is not given.
        OutputFolderError: The output folder holds something that may not be replaced.
        DiskSpaceError: There is too little room for the bundle.
        ParityError: A graph does not compute what PyTorch computes.
        ExportError: The UNet has another form than those of diffusers, so that it cannot be cut for step
            caching.
    """
    number_format(precision)
    target = Path(output)
    check_output(target, force=force)
    opened = open_loras(loras)
    options = SourceOptions(
        revision=revision,
        token=token,
        cache_dir=None if cache_dir is None else Path(cache_dir),
        local_files_only=local_files_only,
        variant=variant,
        allow_pickle=allow_pickle,
        tokenizer=None if tokenizer is None else Path(tokenizer),
        prediction_type=prediction_type,
        seed=seed,
    )
    progress("opening the checkpoint", 0.0)
    checkpoint = open_source(os.fspath(source), options, progress)
    second_vae = None
    if tiny_vae is not None:
        plain = dataclasses.replace(options, revision=None, variant=None)
        second_vae = open_tiny_vae(os.fspath(tiny_vae), plain, progress)
    _write_bundle(
        checkpoint, opened, second_vae, target, precision, progress, step_cache=step_cache, force=force
    )
    return target


def _write_bundle(
    source: CheckpointSource,
    loras: Sequence[Lora],
    tiny_vae: TinyVaeSource | None,
    output: Path,
    precision: Precision,
    progress: Progress,
    *,
    step_cache: bool,
    force: bool,
) -> None:
    family = find_family(source.config("unet"))
    architecture = family.check_architecture(source)
    if tiny_vae is not None:
        check_tiny_vae(tiny_vae.config(), architecture)
    checkpoint = with_loras(source, loras)
    check_disk_space(output, bundle_bytes(checkpoint, family.parts(checkpoint), precision))
    with new_folder(output, force=force) as folder:
        tokenizers = write_tokenizers(checkpoint, family.parts(checkpoint), folder)
        exported = ExportedCheckpoint(checkpoint, family, architecture, folder, precision)
        builds, costs = _export_parts(family.parts(checkpoint), exported, progress)
        write_manifest(
            folder,
            name=output.absolute().name,
            checkpoint=checkpoint.origin(),
            architecture=architecture,
            family=family.name,
            scheduler=family.scheduler_of(checkpoint),
            tokenizers=tokenizers,
            builds=builds,
            costs=costs,
        )
        if tiny_vae is not None:
            write_tiny_vae(folder, tiny_vae, lambda stage, _: progress(stage, _EXPORTED))
        if step_cache:
            write_step_cache(folder, progress=lambda stage, _: progress(stage, _EXPORTED))
        if precision == "fp32":
            build_variants(
                folder, backend="onnxruntime", progress=lambda stage, _: progress(stage, _EXPORTED)
            )
        progress("moving the bundle into place", 1.0)


def _export_parts(
    parts: Sequence[Part], checkpoint: ExportedCheckpoint, progress: Progress
) -> tuple[dict[str, Build], dict[str, ExportCost]]:
    reported = stages(parts)

    def report(stage: str) -> None:
        progress(stage, _EXPORTED * reported.index(stage) / len(reported))

    builds: dict[str, Build] = {}
    costs: dict[str, ExportCost] = {}
    for part in parts:
        started = time.perf_counter()
        builds |= export_part(part, checkpoint, report)
        costs[part] = ExportCost(seconds=time.perf_counter() - started, peak_bytes=peak_bytes())
    return builds, costs
