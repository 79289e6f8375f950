"""Parts of Markdown documents that are made of data, between markers.

A block is what stands between `<!-- bench:NAME -->` and `<!-- /bench -->`; whatever renders it gets NAME.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from inpaintrt.errors import InpaintError

__all__ = ["BlockError", "block_names", "fill_blocks"]

_OPENING = re.compile(r"<!-- bench:(?P<name>[\w:.-]+) -->")
_CLOSING = "<!-- /bench -->"
_BLOCK = re.compile(
    rf"(?P<opening>{_OPENING.pattern})(?P<content>.*?)(?P<closing>{re.escape(_CLOSING)})", re.DOTALL
)


class BlockError(InpaintError):
    """A document's blocks cannot be filled."""


def block_names(text: str) -> list[str]:
    """The names of a document's blocks, in order.

    Raises:
        BlockError: A marker has no partner.
    """
    blocks = list(_BLOCK.finditer(text))
    openings, closings = len(_OPENING.findall(text)), text.count(_CLOSING)
    if not len(blocks) == openings == closings:
        raise BlockError(
            "the markers of the blocks do not pair up",
            received=f"{openings} opening and {closings} closing markers",
            expected=f"<!-- bench:NAME --> ... {_CLOSING}, not one within another",
        )
    return [block["name"] for block in blocks]


def fill_blocks(text: str, render: Callable[[str], str]) -> str:
    """The document with every block's content made anew.

    Args:
        text: Markdown.
        render: Gives the content for a block's name.

    Raises:
        BlockError: A marker has no partner.
    """
    block_names(text)
    return _BLOCK.sub(lambda block: f"{block['opening']}\n{render(block['name'])}\n{block['closing']}", text)
