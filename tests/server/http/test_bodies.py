"""Forms: nothing is written to the disk, and nobody chooses how their texts are decoded."""

import tempfile
from pathlib import Path

import httpx
import pytest

from inpaintrt_server.http.forms import Form, FormParser
from server.uploads import FORM, files, hole

LARGE = 1_500_000


def _grown(file: bytes) -> bytes:
    """A PNG may have anything behind its end."""
    return file + bytes(LARGE)


@pytest.mark.parametrize("path", ["/v1/inpaint", "/v1/images/edits"])
def test_a_large_form_needs_no_temporary_folder(
    server: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    parts = files() if path == "/v1/inpaint" else {"image": ("a.png", hole(), "image/png")}
    name, content, kind = parts["image"]
    fields = FORM if path == "/v1/inpaint" else {"prompt": "a balloon", "steps": 4}
    answer = httpx.post(
        server + path, data=fields, files={**parts, "image": (name, _grown(content), kind)}, timeout=60
    )
    assert answer.status_code == 200, answer.text


def _form(charset: str, prompt: bytes) -> dict[str, object]:
    fields = {b"prompt": prompt, b"num_inference_steps": b"no number"}
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value + b"\r\n"
        for name, value in fields.items()
    ]
    body = b"".join(parts) + b"--b--\r\n"
    return {
        "content": body,
        "headers": {"Content-Type": f"multipart/form-data; boundary=b; charset={charset}"},
    }


@pytest.mark.parametrize("charset", ["punycode", "idna", "utf-16", "utf-7", "zlib", "x"])
def test_clients_do_not_choose_how_texts_are_decoded(server: str, charset: str) -> None:
    answer = httpx.post(f"{server}/v1/inpaint", **_form(charset, b"a" * 1000))  # type: ignore[arg-type]
    assert answer.status_code == 415
    assert answer.json()["error"]["received"] == f"charset {charset}"


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", "us-ascii"])
def test_utf_8_may_be_named(server: str, charset: str) -> None:
    answer = httpx.post(f"{server}/v1/inpaint", **_form(charset, b"a cat"))  # type: ignore[arg-type]
    assert answer.json()["error"]["field"] == "num_inference_steps"


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("", b"x", "no boundary"),
        ("; boundary=" + "b" * 300, b"x", "no usable boundary"),
        ("; boundary=b", b"nothing", "is damaged"),
        ("; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "has no name"),
        (
            "; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nx',
            "in the middle",
        ),
        ("; boundary=b", b"--b\r\nX: " + b"a" * 10_000 + b"\r\n\r\n", "is damaged"),
        ("; boundary=b", b"--b\r\n" + b"X: a\r\n" * 100, "is damaged"),
    ],
)
def test_a_damaged_form_is_told_in_our_words(server: str, kind: str, body: bytes, message: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{kind}"}
    answer = httpx.post(f"{server}/v1/inpaint", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_body")
    assert message in answer.json()["error"]["message"]


def test_parts_may_arrive_in_any_pieces() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xc3\xa4\r\n'
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xe4\r\n'
        b'--b\r\ncontent-disposition: form-data; name="f"; filename="x"\r\nX: y\r\n\r\n\x00\r\n-\r\n--b--\r\n'
    )
    for size in (1, 7, len(body)):
        parser = FormParser("multipart/form-data; boundary=b")
        for start in range(0, len(body), size):
            parser.feed(body[start : start + size])
        assert parser.form() == Form({"a": ("ä", "ä")}, {"f": (b"\x00\r\n-",)})
