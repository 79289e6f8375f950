"""Hostile requests, the same for the same seed."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from inpaintrt_bench.serve import damage

__all__ = ["KINDS", "Attack", "Attacker"]

_ADDRESSES = (
    *("http://127.0.0.1:9/a.png", "file:///etc/passwd", "/etc/passwd", "../../../etc/passwd"),
    *("data:image/png;base64,", "data:text/html,<b>", "\\\\host\\share\\a.png", "ftp://example.org/a.png"),
)
_TEXTS = (
    "",
    "\x00",
    "a" * 20_000,
    "\ud7ff\uffff",
    "%s%n",
    "'; DROP TABLE pictures; --",
    "NaN",
    "1e999",
    "-1",
)
_FIELDS = (
    *("num_inference_steps", "guidance_scale", "strength", "seed", "eta", "height", "width", "margins"),
    *("guidance_interval", "mask_grow", "mask_blur", "clip_skip", "num_images_per_prompt", "previews"),
)
_VALUES: Sequence[Any] = (
    *(-1, 10**9, 10**30, 1e308, "many", None, [], {}, [1, 2, 3], True, "0x10", "", "9" * 400),
)


@dataclass(frozen=True)
class Attack:
    """One hostile request.

    Attributes:
        kind: What is wrong with it.
        path: Where it goes.
        headers: Its headers.
        body: Its body.
        refused: Whether it has to be refused; a damaged picture may still be a picture.
    """

    kind: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    refused: bool


class Attacker:
    """Makes hostile requests.

    Args:
        seed: The same seed makes the same requests.
    """

    def __init__(self, seed: int) -> None:
        self._choice = random.Random(seed)  # noqa: S311  (attacks need not be secret)
        self._files = damage.pictures()
        self._image = self._files[0]

    def attack(self) -> Attack:
        """The next one."""
        kind = self._choice.choice(KINDS)
        return _MAKERS[kind](self, kind)

    def _damaged(self, kind: str) -> Attack:
        return self._with_file(
            kind, damage.damage(self._choice.choice(self._files), self._choice), refused=False
        )

    def _truncated(self, kind: str) -> Attack:
        return self._with_file(
            kind, damage.truncate(self._choice.choice(self._files), self._choice), refused=True
        )

    def _polyglot(self, kind: str) -> Attack:
        return self._with_file(kind, damage.polyglot(self._files, self._choice), refused=False)

    def _bomb(self, kind: str) -> Attack:
        return self._with_file(kind, damage.bomb(self._choice), refused=True)

    def _mask_size(self, kind: str) -> Attack:
        return self._make(kind, self._image, damage.of_another_size(self._choice), refused=True)

    def _with_file(self, kind: str, file: bytes, *, refused: bool) -> Attack:
        """The file as the picture, as the mask, or as both."""
        image, mask = self._choice.choice(((file, self._image), (self._image, file), (file, file)))
        return self._make(kind, image, mask, refused=refused)

    def _make(self, kind: str, image: bytes, mask: bytes, *, refused: bool) -> Attack:
        write = self._choice.choice((_as_form, _as_json, _as_openai, _as_webui))
        path, parts = write(image, mask)
        return _attack(kind, path, parts, refused=refused)

    def _address(self, kind: str) -> Attack:
        """An address or a path where a picture should be."""
        path, parts = _as_json(self._image, self._image)
        parts["json"][self._choice.choice(("image", "mask"))] = self._choice.choice(_ADDRESSES)
        return _attack(kind, path, parts, refused=True)

    def _field(self, kind: str) -> Attack:
        """A value that the field may or may not take."""
        path, parts = _as_json(self._image, self._image)
        # The number of steps stays small wherever the value turns out to be allowed.
        parts["json"][self._choice.choice(_FIELDS)] = self._choice.choice(_VALUES)
        parts["json"]["prompt"] = self._choice.choice(_TEXTS)
        return _attack(kind, path, parts, refused=False)

    def _body(self, kind: str) -> Attack:
        """A body that is not what its header says."""
        path, parts = _as_form(self._image, self._image)
        whole = httpx.Request("POST", f"http://server{path}", **parts)
        body, declared = whole.read(), whole.headers["content-type"]
        random_bytes = self._choice.randbytes(self._choice.randrange(4096))
        nested = b'{"prompt": ' + b"[" * 5000
        wrong = self._choice.choice(
            (
                (declared, body[: self._choice.randrange(len(body) - 40)]),
                ("multipart/form-data", body),
                ("multipart/form-data; boundary=" + "b" * 300, body),
                (declared, random_bytes),
                ("application/json", body),
                ("application/json", random_bytes),
                ("application/json", nested),
                ("application/json", b""),
                ("application/json", b"null"),
                ("text/plain", body),
                ("application/x-www-form-urlencoded", b"prompt=a&image=b"),
            )
        )
        return Attack(kind, path, {"content-type": wrong[0]}, wrong[1], refused=True)

    def _parts(self, kind: str) -> Attack:
        """A form with too many parts, parts that come twice, or names that mean trouble elsewhere."""
        name = self._choice.choice(("image", "x" * 5000, "../../a", "a\x7fb", "prompt"))
        many = self._choice.choice((2, 70, 1000))
        files = [(name, (self._choice.choice(_ADDRESSES), self._image, "image/png"))] * many
        return _attack(kind, "/v1/inpaint", {"data": {"prompt": "a cloud"}, "files": files}, refused=True)


def _attack(kind: str, path: str, parts: Mapping[str, Any], *, refused: bool) -> Attack:
    if "json" in parts:
        body = json.dumps(parts["json"]).encode("utf-8", "surrogatepass")
        return Attack(kind, path, {"content-type": "application/json"}, body, refused)
    request = httpx.Request("POST", f"http://server{path}", **parts)
    return Attack(kind, path, {"content-type": request.headers["content-type"]}, request.read(), refused)


def _as_form(image: bytes, mask: bytes) -> tuple[str, dict[str, Any]]:
    fields = {"prompt": "a cloud", "num_inference_steps": "1"}
    return "/v1/inpaint", {"data": fields, "files": {"image": ("a.png", image), "mask": ("m.png", mask)}}


def _as_json(image: bytes, mask: bytes) -> tuple[str, dict[str, Any]]:
    pictures = {"image": base64.b64encode(image).decode(), "mask": base64.b64encode(mask).decode()}
    return "/v1/inpaint", {"json": {"prompt": "a cloud", "num_inference_steps": 1, **pictures}}


def _as_openai(image: bytes, mask: bytes) -> tuple[str, dict[str, Any]]:
    files = {"image": ("a.png", image, "image/png"), "mask": ("m.png", mask, "image/png")}
    return "/v1/images/edits", {"data": {"prompt": "a cloud", "steps": "1"}, "files": files}


def _as_webui(image: bytes, mask: bytes) -> tuple[str, dict[str, Any]]:
    pictures = {"init_images": [base64.b64encode(image).decode()], "mask": base64.b64encode(mask).decode()}
    return "/sdapi/v1/img2img", {"json": {"prompt": "a cloud", "steps": 1, **pictures}}


_MAKERS: Mapping[str, Callable[[Attacker, str], Attack]] = {
    "damaged picture": Attacker._damaged,
    "truncated picture": Attacker._truncated,
    "two files in one": Attacker._polyglot,
    "decompression bomb": Attacker._bomb,
    "mask of another size": Attacker._mask_size,
    "address instead of a picture": Attacker._address,
    "value out of range": Attacker._field,
    "damaged body": Attacker._body,
    "parts of a form": Attacker._parts,
}

# Damaged pictures three times as often as anything else.
KINDS = (*_MAKERS, "damaged picture", "damaged picture")
