"""Configuration files of a checkpoint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from inpaintrt.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_config"]


def read_config(path: Path, missing: str) -> dict[str, Any]:
    """Read a configuration file.

    Args:
        path: The file.
        missing: What is not there if the file is not, e.g. "no vae in FOLDER".

    Raises:
        SourceError: The file is missing, or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError(
            f"there is {missing}",
            expected=f"a file {path}",
            hint="name a diffusers folder with text_encoder, vae, unet, tokenizer and scheduler",
        ) from None
    except ValueError as error:
        raise SourceError(
            f"{path} is not JSON", received=str(error), hint="download the checkpoint again"
        ) from error
    if not isinstance(content, dict):
        raise SourceError(
            f"{path} is not a configuration", received=type(content).__name__, expected="an object"
        )
    return content
