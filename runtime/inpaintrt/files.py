"""Writing images so that nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, PngImagePlugin

from inpaintrt.atomic import atomic_write
from inpaintrt.errors import ParameterError

__all__ = ["check_output", "numbered", "parameters_text", "save_image"]

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def check_output(path: Path, *, force: bool) -> None:
    """Check, before any work, that an image can be written there.

    Raises:
        ParameterError: The ending is unknown, the folder is missing, or the file exists.
    """
    if path.suffix.lower() not in _FORMATS:
        raise ParameterError(
            "the output file's ending is unknown", received=path.name, expected=", ".join(_FORMATS)
        )
    if not path.parent.is_dir():
        raise ParameterError(
            "the output folder does not exist", received=str(path.parent), hint="create it first"
        )
    if path.exists() and not force:
        raise ParameterError(
            "the output file exists", received=str(path), hint="choose another name, or pass --force"
        )


def numbered(path: Path, count: int) -> list[Path]:
    """Names for several images: `out-1.png`, `out-2.png` and so on; a single one keeps its name."""
    if count == 1:
        return [path]
    return [path.with_stem(f"{path.stem}-{index}") for index in range(1, count + 1)]


def save_image(image: Image.Image, path: Path, texts: Mapping[str, str] | None = None) -> None:
    """Write an image whole or not at all; in a PNG, `texts` go into its metadata."""
    kind = _FORMATS[path.suffix.lower()]
    with atomic_write(path) as partial:
        if kind == "PNG":
            information = PngImagePlugin.PngInfo()
            for key, text in (texts or {}).items():
                information.add_itxt(key, text)
            image.save(partial, kind, pnginfo=information)
        else:
            image.convert("RGB" if kind == "JPEG" else image.mode).save(partial, kind, quality=95)


def parameters_text(parameters: Mapping[str, object], seed: int) -> str:
    """How a result was made, as JSON for the metadata of its file.

    Args:
        parameters: Bundle, prompt and options of the request.
        seed: The seed of this result.
    """
    from importlib.metadata import version  # which takes a tenth of the import of `inpaintrt`

    return json.dumps({**parameters, "seed": seed, "software": f"inpaintrt {version('inpaintrt')}"})
