"""Where checkpoints come from: a folder, the Hub, a single file, or thin air."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inpaintrt.errors import SourceError
from inpaintrt_export.progress import silent

if TYPE_CHECKING:
    from inpaintrt.bundle import PredictionType
    from inpaintrt_export.progress import Progress
    from inpaintrt_export.sources.checkpoint import CheckpointSource

__all__ = ["SourceOptions", "open_source"]


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How a source is read.

    Attributes:
        revision: Branch, tag or commit of a Hub repository.
        token: Token for a private Hub repository; None takes the one that is logged in.
        cache_dir: Folder of downloads; None takes huggingface_hub's.
        local_files_only: Do not go online.
        variant: Variant of the weights, e.g. "fp16".
        allow_pickle: Read pickled weights where there are no others.
        tokenizer: A folder with a tokenizer to take instead of the checkpoint's own.
        prediction_type: What the UNet predicts, if the checkpoint does not say so, or wrongly.
        seed: Of a synthetic checkpoint's weights.
    """

    revision: str | None = None
    token: str | None = None
    cache_dir: Path | None = None
    local_files_only: bool = False
    variant: str | None = None
    allow_pickle: bool = False
    tokenizer: Path | None = None
    prediction_type: PredictionType | None = None
    seed: int = 0


def open_source(source: str, options: SourceOptions, progress: Progress = silent) -> CheckpointSource:
    """Find a checkpoint.

    Args:
        source: `synthetic:NAME`, a diffusers folder, a single file, or a Hub id `owner/name`.
        options: How it is read.
        progress: Called while a checkpoint is downloaded.

    Raises:
        SourceError: There is no such checkpoint.
        UnsafeWeightsError: Its weights are pickled.
    """
    if source.startswith("synthetic:"):
        from inpaintrt_export.sources.synthetic import SyntheticSource

        return SyntheticSource(source, options.seed, prediction_type=options.prediction_type)
    path = Path(source).expanduser()
    if path.is_dir():
        from inpaintrt_export.sources.folder import FolderSource

        return FolderSource(
            path,
            name=path.resolve().name,
            variant=options.variant,
            allow_pickle=options.allow_pickle,
            tokenizer=options.tokenizer,
            prediction_type=options.prediction_type,
        )
    if path.is_file():
        from inpaintrt_export.sources.single_file import SingleFileSource

        return SingleFileSource(
            path,
            allow_pickle=options.allow_pickle,
            tokenizer=options.tokenizer,
            prediction_type=options.prediction_type,
        )
    from inpaintrt_export.sources.hub import is_hub_id, open_hub_source

    if is_hub_id(source):
        return open_hub_source(source, options, progress)
    raise SourceError(
        "there is no such checkpoint",
        received=source,
        expected="a diffusers folder, a .safetensors file, owner/name on the Hub, or synthetic:sd15-inpaint",
    )
