"""A checkpoint on the Hugging Face Hub: downloaded into the Hub's own cache, then read as a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm

from inpaintrt.errors import SourceError, UnsafeWeightsError
from inpaintrt_export.sources.checkpoint import PARTS
from inpaintrt_export.sources.folder import FolderSource
from inpaintrt_export.sources.model_folder import WEIGHT_STEMS

if TYPE_CHECKING:
    from inpaintrt_export.progress import Progress
    from inpaintrt_export.sources import SourceOptions
    from inpaintrt_export.sources.checkpoint import Part

__all__ = ["download_model", "is_hub_id", "open_hub_source"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SETTINGS = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer*/*.json",
    "tokenizer*/*.txt",
    *(f"{part}/config.json" for part in PARTS),
)
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_PASS_TOKEN = "pass a token that may read it with --token, or set HF_TOKEN"  # noqa: S105
# The class of the HTTP library's own errors, which depends on the version of huggingface_hub.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]


def is_hub_id(source: str) -> bool:
    """Whether a source has the form `owner/name`."""
    return _HUB_ID.fullmatch(source) is not None


def open_hub_source(repository: str, options: SourceOptions, progress: Progress) -> FolderSource:
    """Download what is needed of a repository, but for the files that an earlier run has brought.

    Args:
        repository: `owner/name`.
        options: Revision, token, cache folder, whether to stay offline, variant, and pickles.
        progress: Called while bytes arrive.

    Raises:
        SourceError: The repository cannot be reached or read, or has no such weights.
        UnsafeWeightsError: It has pickled weights only, and those are not allowed.
    """
    folder = _download(repository, options, progress, [*_SETTINGS, *_weight_patterns(options, "safetensors")])
    lacking = _parts_without(folder, "*.safetensors")
    if lacking and options.allow_pickle:
        folder = _download(repository, options, progress, [*_SETTINGS, *_weight_patterns(options, "bin")])
        lacking = [part for part in lacking if part in _parts_without(folder, "*.bin")]
    if lacking and not options.local_files_only:
        raise _explain_lack(repository, folder.name, lacking[0], f"{lacking[0]}/", options)
    return FolderSource(
        folder,
        name=repository,
        revision=folder.name,
        variant=options.variant,
        allow_pickle=options.allow_pickle,
        tokenizer=options.tokenizer,
        prediction_type=options.prediction_type,
    )


def download_model(repository: str, part: Part, options: SourceOptions, progress: Progress) -> Path:
    """Download a repository that is a single model, with `config.json` and weights at its root.

    Args:
        repository: `owner/name`.
        part: What the model is.
        options: Revision, token, cache folder, whether to stay offline, variant, and pickles.
        progress: Called while bytes arrive.

    Returns:
        The folder, whose name is the commit.

    Raises:
        SourceError: The repository cannot be reached or read, or has no such weights.
        UnsafeWeightsError: It has pickled weights only, and those are not allowed.
    """
    for suffix in ("safetensors", "bin") if options.allow_pickle else ("safetensors",):
        patterns = ["config.json", *_model_patterns(part, "", options, suffix)]
        folder = _download(repository, options, progress, patterns)
        if any(folder.glob(f"*.{suffix}")):
            return folder
    if options.local_files_only:
        return folder
    raise _explain_lack(repository, folder.name, part, "", options)


def _weight_patterns(options: SourceOptions, suffix: str) -> list[str]:
    return [pattern for part in PARTS for pattern in _model_patterns(part, f"{part}/", options, suffix)]


def _model_patterns(part: Part, prefix: str, options: SourceOptions, suffix: str) -> list[str]:
    """The weights of a model themselves, their shards, and the index of the shards."""
    middle = "" if options.variant is None else f".{options.variant}"
    path = prefix + WEIGHT_STEMS[part][suffix == "bin"]
    return [
        f"{path}{middle}.{suffix}",
        f"{path}{middle}-[0-9]*.{suffix}",
        f"{path}.{suffix}.index{middle}.json",
    ]


def _download(repository: str, options: SourceOptions, progress: Progress, patterns: list[str]) -> Path:
    try:
        folder = snapshot_download(
            repository,
            revision=options.revision,
            cache_dir=options.cache_dir,
            token=options.token,
            local_files_only=options.local_files_only,
            allow_patterns=patterns,
            tqdm_class=_reporting_bar(f"downloading {repository}", progress),
        )
    except (_HTTP_ERROR, OSError, ValueError) as error:
        raise _explain(repository, options, error) from error
    return Path(folder)


def _explain(repository: str, options: SourceOptions, error: Exception) -> SourceError:
    first_line = str(error).strip().partition("\n")[0]
    match error:
        case GatedRepoError():
            return SourceError(
                f"{repository} asks its users to accept conditions first",
                received=first_line,
                hint=f"accept them at the repository's page, then {_PASS_TOKEN}",
            )
        case RevisionNotFoundError():
            return SourceError(
                f"{repository} has no such revision",
                received=options.revision,
                expected="a branch, a tag or a full commit",
            )
        case RepositoryNotFoundError():
            return SourceError(
                f"there is no {repository} on the Hub, or it is private",
                received=first_line,
                hint=f"check the name; for a private repository {_PASS_TOKEN}",
            )
        case LocalEntryNotFoundError():
            return SourceError(
                f"{repository} is not in the cache, or not whole, and the Hub was not asked or not reached",
                received=first_line,
                hint="run once with a connection and without --offline; whole files are kept",
            )
    status = getattr(getattr(error, "response", None), "status_code", None)
    refused = status in (_UNAUTHORIZED, _FORBIDDEN)
    return SourceError(
        f"{repository} cannot be downloaded",
        received=first_line or type(error).__name__,
        hint=_PASS_TOKEN if refused else "check the connection, then run again: whole files are kept",
    )


def _parts_without(folder: Path, pattern: str) -> list[Part]:
    """The parts that have no weights, of those that a checkpoint of this family has."""
    wanted = [part for part in PARTS if part != "text_encoder_2" or (folder / part).is_dir()]
    if (folder / "text_encoder_2").is_dir() and not (folder / "text_encoder").is_dir():
        wanted.remove("text_encoder")
    return [part for part in wanted if not any((folder / part).glob(pattern))]


def _explain_lack(
    repository: str, revision: str, part: Part, prefix: str, options: SourceOptions
) -> SourceError | UnsafeWeightsError:
    """Say what a repository has instead of the weights that were asked for, in the folder `prefix`."""
    try:
        names = HfApi(token=options.token).list_repo_files(repository, revision=revision)
    except (_HTTP_ERROR, OSError) as error:
        raise _explain(repository, options, error) from error
    inside = [name for name in names if name.startswith(prefix) and "/" not in name.removeprefix(prefix)]
    there = [name for name in inside if not name.endswith(".json")]
    received = ", ".join(there) or "no weights at all"
    if any(name.endswith((".bin", ".ckpt", ".pt")) for name in there) and not options.allow_pickle:
        return UnsafeWeightsError(
            f"the weights of the {part} in {repository} are pickled, and reading a pickle can execute code",
            received=received,
            expected="weights in .safetensors files",
            hint="name another revision, or pass --allow-pickle if you trust whoever made them",
        )
    return SourceError(
        f"{repository} has no weights of the {part} as they were asked for",
        received=received,
        expected=_model_patterns(part, prefix, options, "safetensors")[0],
        hint="name a revision or --variant that has them",
    )


def _reporting_bar(stage: str, progress: Progress) -> type[Any]:
    """A progress bar as huggingface_hub wants it, that draws nothing and reports the share of bytes."""

    class ReportingBar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
            super().__init__(*arguments, **{**options, "disable": True})
            self._counts_bytes = options.get("unit") == "B"

        def update(self, n: float | None = 1) -> None:
            self.n += 0 if n is None else n
            if self._counts_bytes and self.total:
                progress(stage, min(self.n / self.total, 1.0))

    return ReportingBar
