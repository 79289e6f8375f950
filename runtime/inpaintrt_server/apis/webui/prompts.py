"""The WebUI's prompt language: what of it would be read as plain text is refused."""

from __future__ import annotations

import re

from inpaintrt_server.http.refusals import FieldError

__all__ = ["plain_prompt"]

_ESCAPED = re.compile(r"\\([()\[\]\\])")
# Patterns of a prompt without its escaped brackets, and what they mean to the WebUI.
_LANGUAGE = (
    (re.compile(r"<(?:lora|lyco|hypernet):[^>]*>"), "an extra network"),
    (re.compile(r"\bAND\b"), "a composition of prompts"),
    (re.compile(r"\bBREAK\b"), "a break between windows"),
    (re.compile(r"\[[^\[\]]*[:|][^\[\]]*\]"), "a part that changes during the run"),
)
_WEIGHT = (re.compile(r"\([^()]*\)|\[[^\[\]]*\]"), "a weight on words")


def plain_prompt(prompt: str, field: str, *, weights: bool) -> str:
    r"""Check that a prompt means the same here as in the WebUI, and undo its escapes.

    Args:
        prompt: A prompt.
        field: The field that it came in.
        weights: Whether brackets weigh words; they do unless the WebUI's setting `emphasis` is "None".

    Returns:
        The prompt; where brackets weigh words, `\(` becomes `(`, and so on.

    Raises:
        FieldError: The prompt uses the WebUI's language.
    """
    rest = _ESCAPED.sub("", prompt)
    for pattern, meaning in (*_LANGUAGE, _WEIGHT) if weights else _LANGUAGE:
        found = pattern.search(rest)
        if found:
            raise FieldError(
                f"the prompt holds {meaning}, which this server does not have",
                field=field,
                received=found.group(),
                expected="plain text",
                hint=r'write brackets as \( and \), or send the override setting {"emphasis": "None"}, '
                "which reads them as they stand",
            )
    return _ESCAPED.sub(r"\1", prompt) if weights else prompt
