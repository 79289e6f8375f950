"""The page's files as an HTTP client sees them, and what a hostile one tries."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from inpaintrt.demo import load_scene
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.settings import ServerSettings
from inpaintrt_server.ui import load_files
from server.conftest import Serve
from server.uploads import opened

POLICY = {
    "default-src": "'self'",
    "img-src": "'self' blob: data:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
NAMES = sorted(load_files())
KEY = "a-key-of-good-length"


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client


def _policy(answer: httpx.Response) -> dict[str, str]:
    directives = answer.headers["content-security-policy"].split(";")
    return {name: value for name, _, value in (part.strip().partition(" ") for part in directives)}


def test_the_page_has_its_parts() -> None:
    assert {"", "app.js", "style.css", "icon.svg", "example.png"} <= set(NAMES)


@pytest.mark.parametrize("path", ["/", "/ui", *(f"/ui/{name}" for name in NAMES)])
def test_every_file_has_the_headers(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == (307 if path in ("/", "/ui") else 200)
    assert _policy(answer) == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/", "/ui"])
def test_short_addresses_lead_to_the_page(client: httpx.Client, path: str) -> None:
    answer = client.get(path, follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/ui/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("app.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
        ("example.png", "image/png"),
    ],
)
def test_media_types(client: httpx.Client, name: str, kind: str) -> None:
    assert client.get(f"/ui/{name}").headers["content-type"] == kind


def test_the_example_is_the_image_of_the_demo(client: httpx.Client) -> None:
    example = opened(client.get("/ui/example.png").content).convert("RGB")
    assert example.tobytes() == load_scene().image.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_page_holds_no_inline_script_or_style(name: str) -> None:
    text = load_files()[name].content.decode("utf-8", "replace")
    if name in ("", "icon.svg"):
        assert " style=" not in text
        assert "<style" not in text
        assert " on" not in "".join(part.partition(">")[0] for part in text.split("<")[1:])
        assert text.count("<script") == text.count('<script type="module" src="app.js"></script>')


def test_a_browser_asks_whether_its_copy_is_current(client: httpx.Client) -> None:
    first = client.get("/ui/app.js")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get("/ui/app.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert _policy(again) == POLICY
    assert client.get("/ui/app.js", headers={"If-None-Match": '"other"'}).content == first.content


def test_tags_differ(client: httpx.Client) -> None:
    assert len({file.etag for file in load_files().values()}) == len(NAMES)


def test_head_tells_the_same_without_the_content(client: httpx.Client) -> None:
    whole, head = client.get("/ui/app.js"), client.head("/ui/app.js")
    assert head.content == b""
    for name in ("content-length", "content-type", "etag", "content-security-policy"):
        assert head.headers[name] == whole.headers[name]


def _raw(address: str, request: bytes) -> tuple[int, bytes]:
    """Send bytes as they are: a client library would tidy the path up."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30) as connection:
        head = f" HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        connection.sendall(request + head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    status, _, body = answer.partition(b"\r\n\r\n")
    return int(status.split()[1]), body


@pytest.mark.parametrize(
    "path",
    [
        "/ui/../../etc/passwd",
        "/ui/../../../../../../etc/passwd",
        "/ui/%2e%2e/%2e%2e/etc/passwd",
        "/ui/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/ui/..%5c..%5cetc%5cpasswd",
        "/ui//etc/passwd",
        "/ui/%2fetc%2fpasswd",
        "/ui/app.js/../../../etc/passwd",
        "/ui/app.js%00.png",
        "/ui/app.js/",
        "/ui//",
        "/ui/static/app.js",
        "/ui/index.html",
        "/ui/__init__.py",
        "/ui/files.py",
        "/ui/gradio_api/file=/etc/passwd",
        "/ui/gradio_api/queue/data?session_hash=a",
        "/ui/config",
        "/file=/etc/passwd",
        "//etc/passwd",
        "//",
    ],
)
def test_no_other_path_leads_to_a_file(server: str, path: str) -> None:
    status, body = _raw(server, b"GET " + path.encode())
    assert status == 404
    assert json.loads(body)["error"]["code"] == "not_found"
    assert b"root:" not in body


@pytest.mark.parametrize(
    "body",
    [
        {"data": ["/etc/passwd"], "fn_index": 0, "session_hash": "a"},
        {
            "data": [None, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}],
            "fn_index": 0,
            "session_hash": "a",
        },
    ],
)
def test_the_queue_of_the_former_page_is_gone(
    client: httpx.Client, service: BatchingService, body: dict[str, object]
) -> None:
    for path in ("/ui/gradio_api/queue/join", "/ui/gradio_api/upload", "/ui/gradio_api/call/run"):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert service.snapshot.outstanding == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("path", ["/ui", "/ui/", "/ui/app.js"])
def test_files_can_only_be_read(client: httpx.Client, path: str, method: str) -> None:
    answer = client.request(method, path, content=b"{}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}


def test_other_names_of_this_machine_s_address_are_turned_away(client: httpx.Client) -> None:
    for headers in ({"Host": "attacker.example"}, {"Origin": "http://attacker.example"}):
        answer = client.get("/ui/", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")


@pytest.fixture
def guarded(service: BatchingService, serve: Serve, tmp_path: Path) -> str:
    """The address of a server with a key."""
    path = tmp_path / "keys"
    path.write_text(KEY)
    return serve(make_application(service, ServerSettings(api_key_file=path)))


def test_files_need_no_key_and_nothing_else_is_open(guarded: str) -> None:
    assert httpx.get(guarded, follow_redirects=True).status_code == 200
    for name in NAMES:
        assert httpx.get(f"{guarded}/ui/{name}").status_code == 200
    for path in ("/info", "/metrics", "/uix", "/nothing"):
        assert httpx.get(guarded + path).status_code == 401


def test_no_answer_leads_to_a_host_that_the_client_named(guarded: str) -> None:
    for path in ("/", "/ui", "/ui//", "/ui/app.js/"):
        headers = {"Host": "attacker.example", "X-Forwarded-Host": "attacker.example"}
        assert "attacker" not in httpx.get(guarded + path, headers=headers).headers.get("location", "")


def test_without_the_page_its_paths_are_unknown(service: BatchingService, serve: Serve) -> None:
    address = serve(make_application(service, ServerSettings(ui=False)))
    assert httpx.get(address).status_code == 405  # OPTIONS is for health probes.
    for path in ("/ui", "/ui/", "/ui/app.js"):
        assert httpx.get(address + path).status_code == 404
