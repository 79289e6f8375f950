"""Forms: nothing is written to the disk, and nobody chooses how their texts are decoded."""

import tempfile
from pathlib import Path

import httpx
import pytest

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
    body = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + prompt + b"\r\n--b--\r\n"
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
    answer = httpx.post(f"{server}/v1/inpaint", **_form(charset, "a cat".encode()))  # type: ignore[arg-type]
    assert answer.json()["error"]["field"] == "image"


def test_a_form_without_a_boundary_is_refused(server: str) -> None:
    answer = httpx.post(f"{server}/v1/inpaint", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "malformed_body"
    assert answer.json()["error"]["message"] == "Missing boundary in multipart."
