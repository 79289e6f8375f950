"""LoRAs in prompts, as the WebUI writes them: `<lora:name:0.8>`."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from inpaintrt_server.batching.loras import NO_LORAS, LoraChoice, LoraLibrary
from inpaintrt_server.http.refusals import FieldError

__all__ = ["TaggedPrompt", "choose_tagged", "read_tags"]

_TAG = re.compile(r"<(?:lora|lyco):([^>]*)>")
_OPENING = re.compile(r"<(?:lora|lyco):")


class TaggedPrompt(NamedTuple):
    """A prompt, and what its tags say.

    Attributes:
        text: The prompt without tags.
        weights: The weight of each LoRA; those of a name that comes more than once are added.
    """

    text: str
    weights: Mapping[str, float]


def read_tags(prompt: str) -> TaggedPrompt:
    """Take the tags out of a prompt; as in the WebUI, the spaces around them stay.

    Raises:
        FieldError: A tag is not one of `<lora:name>` and `<lora:name:weight>`.
    """
    weights: defaultdict[str, float] = defaultdict(float)
    for tag in _TAG.finditer(prompt):
        name, _, weight = tag[1].partition(":")
        weights[name] += _weight_of(tag[0], name, weight or "1")
    text = _TAG.sub("", prompt)
    if left := _OPENING.search(text):
        raise _malformed(text[left.start() : left.start() + 40])
    return TaggedPrompt(text, weights)


def _weight_of(tag: str, name: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not name or tag.endswith(":>") or not math.isfinite(weight):
        raise _malformed(tag)
    return weight


def _malformed(tag: str) -> FieldError:
    return FieldError(
        "a LoRA in the prompt cannot be read",
        field="prompt",
        received=tag,
        expected="<lora:name> or <lora:name:weight>, one weight for text encoder and UNet",
    )


def choose_tagged(tagged: TaggedPrompt, library: LoraLibrary, *, disabled: bool) -> LoraChoice:
    """What the tags of a prompt choose; nothing where extra networks are disabled.

    Raises:
        FieldError: A name is unknown.
    """
    if disabled:
        return NO_LORAS
    for name in tagged.weights:
        if name not in library.names:
            raise FieldError(
                "this server does not have a LoRA that the prompt names",
                field="prompt",
                received=name,
                expected=", ".join(library.names) or "none: the server was started without --lora",
                hint="take it out of the prompt, or send disable_extra_networks true",
            )
    return library.choose(tagged.weights)
