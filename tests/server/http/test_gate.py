"""Who may enter."""

from pathlib import Path

import httpx
import pytest

from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.http.gate import is_loopback
from inpaintrt_server.settings import ServerSettings
from server.conftest import Serve
from server.uploads import FORM, files

KEY = "a-key-of-good-length"


@pytest.fixture
def guarded(service: BatchingService, serve: Serve, tmp_path: Path) -> str:
    """The address of a server with a key."""
    path = tmp_path / "keys"
    path.write_text(KEY)
    return serve(make_application(service, ServerSettings(api_key_file=path)))


@pytest.mark.parametrize("path", ["/info", "/metrics", "/openapi.json", "/v1/models", "/nothing"])
def test_a_key_is_asked_for(guarded: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong-key-of-good-length"}):
        answer = httpx.get(guarded + path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert KEY not in answer.text
    assert httpx.get(guarded + path, headers={"Authorization": f"Bearer {KEY}"}).status_code in (200, 404)


def test_pictures_need_a_key_before_anything_is_read(guarded: str, service: BatchingService) -> None:
    refused = httpx.post(f"{guarded}/v1/inpaint", data=FORM, files=files())
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "unauthorized"
    for headers in ({"X-API-Key": KEY}, {"Authorization": httpx.BasicAuth("me", KEY)._auth_header}):
        answer = httpx.post(f"{guarded}/v1/inpaint", data=FORM, files=files(), headers=headers, timeout=60)
        assert answer.status_code == 200


def test_health_needs_no_key(guarded: str) -> None:
    assert httpx.get(f"{guarded}/healthz").status_code == 200
    assert httpx.get(f"{guarded}/readyz").status_code == 200


def test_with_keys_names_and_origins_do_not_matter(guarded: str) -> None:
    headers = {"X-API-Key": KEY, "Host": "paint.example.org", "Origin": "https://elsewhere.example.org"}
    assert httpx.get(f"{guarded}/info", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example.org"},
        {"Host": "127.0.0.1.example.org"},
        {"Host": "192.168.0.2:8000"},
        {"Origin": "https://elsewhere.example.org"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_without_keys_web_pages_from_elsewhere_are_turned_away(server: str, headers: dict[str, str]) -> None:
    answer = httpx.post(f"{server}/v1/inpaint", data=FORM, files=files(), headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "foreign_origin"


def test_without_keys_this_machine_may_enter(server: str) -> None:
    port = server.rpartition(":")[2]
    assert httpx.get(f"{server}/info", headers={"Origin": server}).status_code == 200
    assert httpx.get(f"{server}/info", headers={"Host": f"localhost:{port}"}).status_code == 200


def test_the_insecure_trust_everybody(service: BatchingService, serve: Serve) -> None:
    address = serve(make_application(service, ServerSettings(insecure=True)))
    headers = {"Host": "paint.example.org", "Origin": "https://elsewhere.example.org"}
    assert httpx.get(f"{address}/info", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("page.localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.2", False),
        ("example.org", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
