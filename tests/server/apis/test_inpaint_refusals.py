"""What `POST /v1/inpaint` refuses: the status, the code, and a reason that helps."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from inpaintrt_server.batching.service import BatchingService
from server.conftest import wait_until
from server.uploads import FORM, SCENE, as_json, base64_of, files, opened, png_of


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client


def _refused(answer: httpx.Response, status: int, code: str) -> Mapping[str, str]:
    assert answer.status_code == status, answer.text
    error: Mapping[str, str] = answer.json()["error"]
    assert error["code"] == code
    assert error["message"]
    return error


@pytest.fixture(autouse=True)
def nothing_is_left(service: BatchingService) -> Iterator[None]:
    """Every place is free again after each test."""
    yield
    wait_until(lambda: service.snapshot.outstanding == 0)


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"num_inference_steps": 0}, "invalid_field", "greater than or equal to 1"),
        ({"num_inference_steps": 201}, "invalid_parameter", "at most 200"),
        ({"num_inference_steps": "many"}, "invalid_field", "integer"),
        ({"timesteps": []}, "invalid_field", "at least 1 item"),
        ({"timesteps": [5] * 1001}, "invalid_field", "at most 1000 items"),
        ({"timesteps": list(range(201, 0, -1))}, "invalid_parameter", "at most 200"),
        ({"timesteps": [999, "x"]}, "invalid_field", "number"),
        ({"timesteps": [999, "inf"]}, "invalid_field", "finite"),
        ({"timesteps": [500, 999], "scheduler": "euler"}, "invalid_parameter", "none larger"),
        ({"timesteps": [1e300], "scheduler": "euler"}, "invalid_parameter", "from 0 to 999"),
        ({"timesteps": [999], "scheduler": "ddim"}, "invalid_parameter", "DDIMScheduler takes no timesteps"),
        ({"timesteps": [999], "scheduler": "ddim", "stream": True, "previews": 1}, "invalid_parameter", "no"),
        ({"timestep_spacing": "karras"}, "invalid_field", "'trailing'"),
        ({"timestep_spacing": "trailing", "scheduler": "lcm"}, "invalid_parameter", "has no meaning"),
        ({"preset": "lightning"}, "invalid_parameter", "there is no such preset"),
        ({"preset": "dmd2", "num_inference_steps": 4}, "invalid_parameter", "not for this checkpoint"),
        ({"preset": "hyper-sd-2step"}, "invalid_parameter", "another number of steps"),
        ({"sigmas": [1.0]}, "invalid_field", "at least 2 items"),
        ({"sigmas": [1.0, -1.0], "scheduler": "euler"}, "invalid_parameter", "only the last may be 0"),
        ({"sigmas": [5.0] * 202, "scheduler": "euler"}, "invalid_parameter", "at most 200"),
        ({"sigmas": [1, 0], "timesteps": [999], "scheduler": "euler"}, "invalid_parameter", "both given"),
        ({"prompt_embeds": [[[0.0]]]}, "invalid_field", "does not have the field"),
        ({"num_images_per_prompt": 9, "response_format": "json"}, "invalid_parameter", "at most 8"),
        ({"num_images_per_prompt": 10**12}, "invalid_field", "less than or equal to 100"),
        ({"prompt": "a" * 10_001}, "invalid_prompt", "at most 10000"),
        ({"negative_prompt": "a" * 10_001}, "invalid_prompt", "at most 10000"),
        ({"prompt": None}, "invalid_field", "string"),
        ({"strength": 1.5}, "invalid_field", "less than or equal to 1"),
        ({"guidance_scale": 1e9}, "invalid_field", "less than or equal to 50"),
        ({"seed": -1}, "invalid_field", "greater than or equal to 0"),
        ({"seed": [1, 2], "response_format": "json"}, "invalid_parameter", "one seed, or 1"),
        ({"scheduler": "magic"}, "unknown_sampler", "euler_a"),
        ({"height": 12}, "invalid_field", "multiple of 8"),
        ({"height": 4096, "width": 4096}, "invalid_parameter", "at most 1048576"),
        ({"height": 1032}, "invalid_parameter", "at most 1048576"),
        ({"clip_skip": 12}, "invalid_parameter", "0 to"),
        ({"guidance_interval": [0.8, 0.2]}, "invalid_parameter", "start <= stop"),
        ({"quality": "best"}, "invalid_field", "'balanced'"),
        ({"quality": "fast", "preset": "tcd"}, "invalid_parameter", "leave quality out"),
        ({"fill": "noise", "compat": "diffusers"}, "invalid_parameter", "fill"),
        ({"output_type": "latent"}, "invalid_field", "does not have the field"),
        ({"latents": [0.0]}, "invalid_field", "does not have the field"),
        ({"output_format": "gif"}, "invalid_field", "png"),
        ({"previews": 11}, "invalid_field", "10"),
        ({"num_images_per_prompt": 2}, "invalid_parameter", "application/json"),
        (
            {"match_colors": True, "match_colours": True},
            "invalid_parameter",
            "match_colours and match_colors",
        ),
    ],
)
def test_a_field_out_of_its_range(
    client: httpx.Client, fields: dict[str, object], code: str, words: str
) -> None:
    answer = client.post("/v1/inpaint", json=as_json(**fields))
    assert words in str(_refused(answer, 422, code))


def test_the_field_that_is_wrong_is_named(client: httpx.Client) -> None:
    for field, value, name in (
        ("seed", "x", "seed"),
        ("margins", [0, 0, 0, "x"], "margins.3"),
        ("magic", 1, "magic"),
    ):
        answer = client.post("/v1/inpaint", json=as_json(**{field: value}))
        assert _refused(answer, 422, "invalid_field")["field"] == name


def test_a_missing_prompt(client: httpx.Client) -> None:
    body = as_json()
    del body["prompt"]
    assert "missing" in _refused(client.post("/v1/inpaint", json=body), 422, "invalid_field")["message"]
    form = {name: value for name, value in FORM.items() if name != "prompt"}
    answer = client.post("/v1/inpaint", data=form, files=files())
    assert _refused(answer, 422, "invalid_field")["field"] == "prompt"


def test_a_mask_without_an_image(client: httpx.Client) -> None:
    body = as_json()
    del body["image"]
    _refused(client.post("/v1/inpaint", json=body), 400, "invalid_mask")


@pytest.mark.parametrize(
    ("sources", "fields", "field", "words"),
    [
        ((), {"strength": 0.5}, "strength", "an image, or no strength"),
        ((), {"mask_blur": 3}, "mask_blur", "a mask, or no such option"),
        (("image",), {"fill": "noise"}, "fill", "a mask, or no such option"),
        (("image",), {"padding_mask_crop": 8}, "padding_mask_crop", "a mask, or no such option"),
    ],
)
def test_options_that_have_no_meaning_for_the_task(
    client: httpx.Client, sources: tuple[str, ...], fields: Mapping[str, object], field: str, words: str
) -> None:
    absent = {name: None for name in ("image", "mask") if name not in sources}
    error = _refused(client.post("/v1/inpaint", json=as_json(**absent, **fields)), 422, "invalid_parameter")
    assert error["field"] == field
    assert words in error["expected"]


def test_margins_without_an_image(client: httpx.Client) -> None:
    answer = client.post("/v1/inpaint", json={**FORM, "margins": [8, 0, 0, 0]})
    assert "no image" in _refused(answer, 400, "invalid_mask")["message"]


@pytest.mark.parametrize("size", [(64, 64), (128, 127), (256, 256)])
def test_a_mask_of_another_size(client: httpx.Client, size: tuple[int, int]) -> None:
    answer = client.post("/v1/inpaint", json=as_json(mask=base64_of(SCENE.mask.resize(size))))
    assert "128 x 128" in str(_refused(answer, 400, "invalid_mask"))


@pytest.mark.parametrize(
    "text", ["https://example.org/a.png", "file:///etc/hostname", "../../a.png", "a b", "ä"]
)
@pytest.mark.parametrize("role", ["image", "mask"])
def test_addresses_and_paths_are_not_opened(client: httpx.Client, text: str, role: str) -> None:
    error = _refused(client.post("/v1/inpaint", json=as_json(**{role: text})), 400, f"invalid_{role}")
    assert "not opened" in error["what_to_do"]


@pytest.mark.parametrize("role", ["image", "mask"])
def test_the_path_of_an_image_on_the_server_is_not_opened(
    client: httpx.Client, tmp_path: Path, role: str
) -> None:
    path = tmp_path / "secret.png"
    SCENE.image.save(path)
    _refused(client.post("/v1/inpaint", json=as_json(**{role: str(path)})), 400, f"invalid_{role}")
    # Without a file name a part of a form is a text: the path of a file, to the runtime.
    parts: dict[str, Any] = {**files(), role: (None, str(path))}
    answer = client.post("/v1/inpaint", data=FORM, files=parts)
    assert "not a file" in _refused(answer, 422, "invalid_field")["message"]
    parts = {**files(), role: ("a.png", str(path).encode(), "image/png")}
    _refused(client.post("/v1/inpaint", data=FORM, files=parts), 400, f"invalid_{role}")


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in ((b"IHDR", header), *chunks, (b"IEND", b""))
    )


HOSTILE = {
    "nothing": b"",
    "a text": b"this is an image, believe me",
    "a web page": b"<html><script>alert(1)</script></html>",
    "a drawing": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "a program for printers": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "a document": b"%PDF-1.7\n1 0 obj\n",
    "an archive": b"PK\x03\x04" + bytes(100),
    "only a signature": b"\x89PNG\r\n\x1a\n",
    "a truncated image": png_of(SCENE.image)[:2000],
    "no pixels": _png(128, 128),
    "too few pixels": _png(128, 128, (b"IDAT", zlib.compress(bytes(1000)))),
    "no width": _png(0, 128, (b"IDAT", zlib.compress(b""))),
    "a text that swells": _png(128, 128, (b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000)))),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("role", ["image", "mask"])
def test_what_is_no_sound_image(client: httpx.Client, name: str, role: str) -> None:
    parts = {**files(), role: ("a.png", HOSTILE[name], "image/png")}
    _refused(client.post("/v1/inpaint", data=FORM, files=parts), 400, f"invalid_{role}")


@pytest.mark.parametrize("role", ["image", "mask"])
def test_a_header_with_too_many_pixels(client: httpx.Client, role: str) -> None:
    parts = {**files(), role: ("a.png", _png(6000, 6000, (b"IDAT", b"")), "image/png")}
    error = _refused(client.post("/v1/inpaint", data=FORM, files=parts), 413, "image_too_large")
    assert error["received"] == "6000 x 6000"
    parts = {**files(), role: ("a.png", _png(60_000, 60_000, (b"IDAT", b"")), "image/png")}
    _refused(client.post("/v1/inpaint", data=FORM, files=parts), 400, f"invalid_{role}")


@pytest.mark.parametrize("margins", [[16384, 0, 0, 0], [0, 16384, 0, 16384], [6000, 6000, 0, 0]])
def test_a_canvas_with_too_many_pixels(client: httpx.Client, margins: list[int]) -> None:
    _refused(client.post("/v1/inpaint", json=as_json(margins=margins)), 413, "image_too_large")


def test_an_image_with_sides_that_differ_too_much(client: httpx.Client) -> None:
    thin = base64_of(Image.new("RGB", (17_000, 8)))
    _refused(client.post("/v1/inpaint", json=as_json(image=thin, mask=thin)), 413, "image_too_large")


def test_a_file_that_is_two_things_gives_back_the_image_alone(client: httpx.Client) -> None:
    page = b"<script>alert(1)</script>"
    parts = {**files(), "image": ("a.html", png_of(SCENE.image) + page, "text/html")}
    answer = client.post("/v1/inpaint", data=FORM, files=parts)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert page not in answer.content
    assert opened(answer.content).size == SCENE.image.size


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"a": ' * 100_000, b'{"seed": 1' + b"0" * 5000 + b"}"]
)
def test_what_is_no_json_object(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/inpaint", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["error"]["code"] in ("malformed_body", "invalid_field")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png", ""])
def test_a_body_of_another_type(client: httpx.Client, kind: str) -> None:
    answer = client.post("/v1/inpaint", content=b"prompt=a", headers={"Content-Type": kind})
    assert "multipart/form-data" in _refused(answer, 415, "unsupported_media_type")["expected"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--b\r\n\r\n"),
        ("multipart/form-data; boundary=b", b"nothing"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n',
        ),
    ],
)
def test_a_damaged_form(client: httpx.Client, kind: str, body: bytes) -> None:
    answer = client.post("/v1/inpaint", content=body, headers={"Content-Type": kind})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["error"]["code"] in ("malformed_body", "invalid_field")


def test_too_many_parts(client: httpx.Client) -> None:
    answer = client.post("/v1/inpaint", data={f"field{index}": "x" for index in range(100)}, files=files())
    assert "too many fields" in _refused(answer, 400, "malformed_body")["message"]
    parts = [("image", ("a.png", b"x", "image/png"))] * 20
    answer = client.post("/v1/inpaint", data=FORM, files=parts)
    assert "too many files" in _refused(answer, 400, "malformed_body")["message"]


def test_a_field_that_is_too_long_for_a_form(client: httpx.Client) -> None:
    answer = client.post("/v1/inpaint", data={**FORM, "prompt": "a" * 2**21}, files=files())
    _refused(answer, 400, "malformed_body")


def test_fields_that_come_twice(client: httpx.Client) -> None:
    answer = client.post("/v1/inpaint", data={**FORM, "prompt": ["a", "b"]}, files=files())
    assert "more than once" in _refused(answer, 422, "invalid_field")["message"]
    parts = [(name, part) for name, part in (*files().items(), *files().items())]
    answer = client.post("/v1/inpaint", data=FORM, files=parts)
    assert "more than once" in _refused(answer, 422, "invalid_field")["message"]


def test_an_unknown_file(client: httpx.Client) -> None:
    parts = {**files(), "control": files()["mask"]}
    error = _refused(client.post("/v1/inpaint", data=FORM, files=parts), 422, "invalid_field")
    assert error["field"] == "control"


def test_lone_surrogates_are_told_of_without_a_crash(client: httpx.Client) -> None:
    body = b'{"prompt": "a", "scheduler": "\\ud800", "image": "", "mask": ""}'
    answer = client.post("/v1/inpaint", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_limit_that_is_none(client: httpx.Client, seconds: str) -> None:
    answer = client.post("/v1/inpaint", json=as_json(), headers={"X-Request-Timeout": seconds})
    assert _refused(answer, 422, "invalid_field")["field"] == "X-Request-Timeout"


def test_a_time_limit_that_is_over(client: httpx.Client) -> None:
    long = as_json(num_inference_steps=200)
    answer = client.post("/v1/inpaint", json=long, headers={"X-Request-Timeout": "0.3"})
    _refused(answer, 504, "deadline_exceeded")


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    _refused(client.get("/v2/inpaint"), 404, "not_found")
    answer = client.get("/v1/inpaint")
    _refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
