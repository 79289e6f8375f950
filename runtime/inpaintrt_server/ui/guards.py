"""Limits that Gradio itself does not have, on what a client can hand to the page.

A component's methods are replaced on the object, not in a subclass: Gradio writes a stub file beside the
source of every subclass of a component.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import gradio
from gradio.blocks import Block
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs
from gradio.data_classes import FileData
from PIL import Image

from inpaintrt.errors import InpaintError
from inpaintrt.images import load_image
from inpaintrt_server.http.uploads import check_upload

__all__ = ["guard_editor", "guard_files"]

_WEB = ("http://", "https://")
_MOST_WAITING = 64
_FIRST_LAYER = ("", "0", "null", "None")

_Decode: TypeAlias = Callable[..., Image.Image | None]


def guard_files(page: gradio.Blocks) -> None:
    """Let no part of the page fetch a web address that a hand-made request names as a file."""
    for block in page.blocks.values():
        _refuse_addresses(block)


def _refuse_addresses(block: Block) -> None:
    keep = block.async_move_resource_to_block_cache

    async def keep_upload(url_or_file_path: str | Path | None) -> str | None:
        if str(url_or_file_path).lower().startswith(_WEB):
            raise gradio.Error("web addresses are not opened: load the picture itself", print_exception=False)
        return await keep(url_or_file_path)

    block.async_move_resource_to_block_cache = keep_upload  # type: ignore[method-assign]


def guard_editor(editor: gradio.ImageEditor, max_pixels: int) -> None:
    """Look at a picture's header before it is decoded, and let old uploads make room for new ones.

    Args:
        editor: Where people load pictures.
        max_pixels: The most pixels of a picture.
    """
    editor.convert_and_format_image = _decoder(max_pixels)  # type: ignore[method-assign]
    take = editor.accept_blobs

    def accept_blobs(data: AcceptBlobs) -> None:
        if str(data.data.get("index") or "") not in _FIRST_LAYER:
            raise gradio.Error("there is one layer only", print_exception=False)
        take(data)
        while len(editor.blob_storage) > _MOST_WAITING:
            editor.blob_storage.pop(next(iter(editor.blob_storage)))

    editor.accept_blobs = server(accept_blobs)  # type: ignore[no-untyped-call]


def _decoder(max_pixels: int) -> _Decode:
    def decode(file: FileData | bytes | None, **_: object) -> Image.Image | None:
        """A part of the picture, upright, of mode "RGBA"; None where there is none."""
        if file is None:
            return None
        content = Path(file.path).read_bytes() if isinstance(file, FileData) else file
        try:
            check_upload(content, "image", max_pixels=max_pixels)
            return load_image(content, max_pixels=max_pixels).convert("RGBA")
        except InpaintError as error:
            raise gradio.Error(error.what, print_exception=False) from error

    return decode
