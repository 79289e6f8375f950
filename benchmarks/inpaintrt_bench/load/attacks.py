"""Hostile requests, the same for the same seed."""

from __future__ import annotations

import base64
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from inpaintrt_bench.load import damaged_images

__all__ = ["KINDS", "Attack", "Attacker", "largest_run"]

_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_POST = b"POST /v1/inpaint HTTP/1.1\r\nContent-Type: application/json\r\n"
_HOST = b"Host: 127.0.0.1\r\n"
_PATHS = ("/ui", "/ui/static", "/v1", "/sdapi/v1", "", "/ui/gradio_api/file=")
_UP = ("/..", "/%2e%2e", "/..%2f", "/%2e%2e%2f", "/..%5c", "/....//", "/%252e%252e", "//", "/\\..")
_FILES = ("/etc/passwd", "etc/passwd", "/proc/self/environ", "/etc/passwd%00.png", "etc%2fpasswd")
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
    "'; DROP TABLE images; --",
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
# Where a text that looks like an address is a text like any other.
_FREE_TEXTS = ("prompt", "negative_prompt", "user", "safety_identifier", "force_task_id")


def _traversal(choice: random.Random) -> bytes:
    """Asks for a file outside what is served."""
    up = choice.choice(_UP) * choice.choice((1, 3, 8))
    path = choice.choice(_PATHS) + up + choice.choice(_FILES)
    method = choice.choice(("GET", "HEAD", "POST"))
    return f"{method} {path} HTTP/1.1\r\n".encode() + _HOST + b"Connection: close\r\n\r\n"


def _framing(choice: random.Random) -> bytes:
    """A request that is not HTTP, or that two programs may read in two ways, and another one behind it."""
    chunks = b"0\r\n\r\n"
    return choice.choice(
        (
            _POST + _HOST + b"Content-Length: 72\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + _SMUGGLED,
            _POST + _HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunks + _SMUGGLED,
            _POST + _HOST + b"Content-Length: 5\r\nContent-Length: 72\r\n\r\n" + chunks + _SMUGGLED,
            _POST + _HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + _SMUGGLED,
            _POST + _HOST + b"Content-Length: +5\r\n\r\n" + chunks + _SMUGGLED,
            b"GET /info HTTP/1.1\r\nHost: [\r\n\r\n" + _SMUGGLED,
            b"GET /info HTTP/1.1\r\n" + _HOST * 2 + b"\r\n" + _SMUGGLED,
            b"GET /info HTTP/1.0\r\n\r\n" + _SMUGGLED,
            b"GET /info HTTP/1.1\r\n" + _HOST + b"X: y\r\n" * choice.choice((5000, 40_000)) + b"\r\n",
            b"GET /" + b"a" * choice.choice((30_000, 200_000)) + b" HTTP/1.1\r\n" + _HOST + b"\r\n",
            choice.randbytes(choice.randrange(1, 2000)) + b"\r\n\r\n",
        )
    )


@dataclass(frozen=True)
class Attack:
    """One hostile request.

    Attributes:
        kind: What is wrong with it.
        path: Where it goes.
        headers: Its headers.
        body: Its body.
        refused: Whether it has to be refused; a damaged image may still be an image.
        raw: The whole request, where it is not what an HTTP client sends; the others do not count then.
    """

    kind: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    refused: bool
    raw: bytes | None = None


class Attacker:
    """Makes hostile requests.

    Args:
        seed: The same seed makes the same requests.
    """

    def __init__(self, seed: int) -> None:
        self._choice = random.Random(seed)  # noqa: S311  (attacks need not be secret)
        self._files = damaged_images.sample_images()
        self._image = self._files[0]

    def attack(self) -> Attack:
        """The next one."""
        kind = self._choice.choice(KINDS)
        return _MAKERS[kind](self, kind)

    def _damaged(self, kind: str) -> Attack:
        return self._with_file(
            kind, damaged_images.damage(self._choice.choice(self._files), self._choice), refused=False
        )

    def _truncated(self, kind: str) -> Attack:
        return self._with_file(
            kind, damaged_images.truncate(self._choice.choice(self._files), self._choice), refused=True
        )

    def _polyglot(self, kind: str) -> Attack:
        return self._with_file(kind, damaged_images.polyglot(self._files, self._choice), refused=False)

    def _bomb(self, kind: str) -> Attack:
        return self._with_file(kind, damaged_images.bomb(self._choice), refused=True)

    def _parts_of_file(self, kind: str) -> Attack:
        """A small number of pixels, or a small file, that takes a decoder for ever."""
        return self._with_file(kind, damaged_images.countless_parts(self._choice), refused=True)

    def _traversal(self, kind: str) -> Attack:
        return Attack(kind, "", {}, b"", refused=True, raw=_traversal(self._choice))

    def _framing(self, kind: str) -> Attack:
        return Attack(kind, "", {}, b"", refused=True, raw=_framing(self._choice))

    def _address_anywhere(self, kind: str) -> Attack:
        """The address of a file where any field's value should be, on every interface."""
        write, names = self._choice.choice(_EVERY_FIELD)
        path, parts = write(self._image, self._image)
        name, address = self._choice.choice(names), self._choice.choice(_ADDRESSES)
        values = parts["json"] if "json" in parts else parts["data"]
        values[name] = (
            self._choice.choice((address, [address], {"path": address})) if "json" in parts else address
        )
        if name in parts.get("files", {}):
            del parts["files"][name]
        return _attack(
            kind, path, parts, refused=not isinstance(values[name], str) or name not in _FREE_TEXTS
        )

    def _page(self, kind: str) -> Attack:
        """What read files through the page that there once was, and layers without number."""
        file = {"path": self._choice.choice(_ADDRESSES), "meta": {"_type": "gradio.FileData"}}
        layers = [base64.b64encode(self._image).decode()] * self._choice.choice((1, 20, 500))
        data = self._choice.choice(([file, None], [{"background": file, "layers": []}], [{"layers": layers}]))
        path = self._choice.choice(("/ui/gradio_api/queue/join", "/ui/gradio_api/upload", "/ui", "/ui/api"))
        return _attack(kind, path, {"json": {"fn_index": 0, "data": data, "session_hash": "a"}}, refused=True)

    def _large_form(self, kind: str) -> Attack:
        """Megabytes in parts that nobody asked for."""
        part, count = bytes(self._choice.choice((10_000, 1_000_000))), self._choice.choice((2, 15, 60))
        files = [(self._choice.choice(("image", "mask", "layer")), ("a.png", part))] * min(count, 15)
        fields = {f"field{index}": "a" * 10_000 for index in range(count)}
        path = self._choice.choice(("/v1/inpaint", "/v1/images/edits"))
        return _attack(kind, path, {"data": fields, "files": files}, refused=True)

    def _mask_size(self, kind: str) -> Attack:
        return self._make(kind, self._image, damaged_images.of_another_size(self._choice), refused=True)

    def _with_file(self, kind: str, file: bytes, *, refused: bool) -> Attack:
        """The file as the image, as the mask, or as both."""
        image, mask = self._choice.choice(((file, self._image), (self._image, file), (file, file)))
        return self._make(kind, image, mask, refused=refused)

    def _make(self, kind: str, image: bytes, mask: bytes, *, refused: bool) -> Attack:
        write = self._choice.choice((_as_form, _as_json, _as_openai, _as_webui))
        path, parts = write(image, mask)
        return _attack(kind, path, parts, refused=refused)

    def _address(self, kind: str) -> Attack:
        """An address or a path where an image should be."""
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


def largest_run(pixels: int) -> Attack:
    """A sound request of the largest size to run at.

    Args:
        pixels: The server's limit.
    """
    side = math.isqrt(pixels) // 8 * 8
    image = damaged_images.sample_images()[0]
    path, parts = _as_json(image, damaged_images.white_mask())
    parts["json"] |= {"height": side, "width": side}
    return _attack("largest run", path, parts, refused=False)


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
    images = {"image": base64.b64encode(image).decode(), "mask": base64.b64encode(mask).decode()}
    return "/v1/inpaint", {"json": {"prompt": "a cloud", "num_inference_steps": 1, **images}}


def _as_openai(image: bytes, mask: bytes) -> tuple[str, dict[str, Any]]:
    files = {"image": ("a.png", image, "image/png"), "mask": ("m.png", mask, "image/png")}
    return "/v1/images/edits", {"data": {"prompt": "a cloud", "steps": "1"}, "files": files}


def _as_webui(image: bytes, mask: bytes) -> tuple[str, dict[str, Any]]:
    images = {"init_images": [base64.b64encode(image).decode()], "mask": base64.b64encode(mask).decode()}
    return "/sdapi/v1/img2img", {"json": {"prompt": "a cloud", "steps": 1, **images}}


_EVERY_FIELD: Sequence[tuple[Callable[[bytes, bytes], tuple[str, dict[str, Any]]], Sequence[str]]] = (
    (_as_json, ("image", "mask", "prompt", "negative_prompt", "scheduler", "fill", *_FIELDS)),
    (_as_form, ("image", "mask", "prompt", "negative_prompt", "scheduler", "fill", *_FIELDS)),
    (
        _as_openai,
        ("image", "mask", "prompt", "model", "size", "quality", "output_format", "scheduler", "user", "n"),
    ),
    (
        _as_webui,
        (
            "init_images",
            "mask",
            "prompt",
            "sampler_name",
            "scheduler",
            "override_settings",
            "styles",
            "width",
        ),
    ),
)


_MAKERS: Mapping[str, Callable[[Attacker, str], Attack]] = {
    "damaged image": Attacker._damaged,
    "truncated image": Attacker._truncated,
    "two files in one": Attacker._polyglot,
    "decompression bomb": Attacker._bomb,
    "mask of another size": Attacker._mask_size,
    "address instead of an image": Attacker._address,
    "value out of range": Attacker._field,
    "damaged body": Attacker._body,
    "parts of a form": Attacker._parts,
    "megabytes in a form": Attacker._large_form,
    "image with countless parts": Attacker._parts_of_file,
    "path outside the page": Attacker._traversal,
    "request that is not HTTP": Attacker._framing,
    "address in any field": Attacker._address_anywhere,
    "request for the former page": Attacker._page,
}


# Damaged images three times as often as anything else.
KINDS = (*_MAKERS, "damaged image", "damaged image")
