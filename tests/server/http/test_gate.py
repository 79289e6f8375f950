"""Who may enter."""

from pathlib import Path

import httpx
import pytest

from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.http.gate import is_loopback
from inpaintrt_server.settings import ServerSettings
from server.conftest import Serve
from server.raw import ask
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


def test_images_need_a_key_before_anything_is_read(guarded: str, service: BatchingService) -> None:
    refused = httpx.post(f"{guarded}/v1/inpaint", data=FORM, files=files())
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "unauthorized"
    for headers in ({"X-API-Key": KEY}, {"Authorization": httpx.BasicAuth("me", KEY)._auth_header}):
        answer = httpx.post(f"{guarded}/v1/inpaint", data=FORM, files=files(), headers=headers, timeout=60)
        assert answer.status_code == 200


def test_a_wrong_key_does_not_hide_a_right_one(guarded: str) -> None:
    wrong, right = "Bearer wrong-key-of-good-length", f"Bearer {KEY}"
    basic = httpx.BasicAuth("me", "wrong")._auth_header
    for headers in (
        [("Authorization", wrong), ("X-API-Key", KEY)],
        [("Authorization", basic), ("X-API-Key", KEY)],
        [("Authorization", right), ("X-API-Key", "wrong")],
        [("Authorization", wrong), ("Authorization", right)],
        [("X-API-Key", "wrong"), ("X-API-Key", KEY)],
    ):
        assert httpx.get(f"{guarded}/info", headers=headers).status_code == 200
        assert httpx.get(f"{guarded}/sdapi/v1/progress", headers=headers).status_code == 200
    both = {"Authorization": wrong, "X-API-Key": "wrong-too"}
    assert httpx.get(f"{guarded}/info", headers=both).status_code == 401


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
        {"Origin": "http://["},
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


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_answers_under_every_name(server: str, path: str) -> None:
    headers = {"Host": "balancer.example.org", "Origin": "https://elsewhere.example.org"}
    assert httpx.get(server + path, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_probes_need_no_host(server: str, method: str, path: str) -> None:
    head, _, body = ask(server, f"{method} {path} HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert bool(body) == (method == "GET")


def test_haproxys_own_check_is_about_readiness(server: str, guarded: str) -> None:
    for address in (server, guarded):
        assert ask(address, "OPTIONS / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_all_else_without_a_host_is_refused(server: str, guarded: str) -> None:
    assert ask(server, "GET /info HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    foreign = "GET /metrics HTTP/1.0\r\nOrigin: http://elsewhere.example.org\r\n\r\n"
    assert ask(server, foreign).startswith(b"HTTP/1.1 403 ")
    assert ask(guarded, "GET /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 401 ")


def test_figures_are_not_for_foreign_pages(server: str) -> None:
    assert httpx.get(f"{server}/metrics", headers={"Host": "rebound.example.org"}).status_code == 403


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
