"""What is not HTTP, or may be read in two ways, is refused in our words, and ends the connection."""

import json

import httpx
import pytest
from fastapi import FastAPI

from server.conftest import Logged
from server.raw import ask
from server.uploads import as_json

SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEAD = "POST /v1/inpaint HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def _error(answer: bytes) -> dict[str, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-request-id:" in head.lower()
    assert b"connection: close" in head.lower()
    error: dict[str, str] = json.loads(body)["error"]
    return error


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("NONSENSE\r\n\r\n", 400),
        ("\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        (f"{HEAD}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (f"{HEAD}Content-Length: -1\r\n\r\n", 400),
        (f"{HEAD}Transfer-Encoding: gzip\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nHost: a\r\n" + "X: y\r\n" * 50_000 + "\r\n", 431),
        ("GET /" + "a" * 70_000 + " HTTP/1.1\r\nHost: a\r\n\r\n", 431),
    ],
)
def test_what_is_not_http_is_refused_counted_and_logged(
    server: str, log: Logged, request_text: str, status: int
) -> None:
    counted = httpx.get(f"{server}/metrics").text
    answer = ask(server, request_text + SMUGGLED)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.count(b"HTTP/1.1 ") == 1
    assert _error(answer)["code"] == "malformed_request"
    line = log.only(code="malformed_request")
    assert (line["status"], line["client"], line["api"]) == (status, "127.0.0.1", "other")
    assert _refused(httpx.get(f"{server}/metrics").text) == _refused(counted) + 1


def _refused(metrics: str) -> float:
    start = 'inpaintrt_refused_total{reason="malformed_request"} '
    return float(next((line[len(start) :] for line in metrics.splitlines() if line.startswith(start)), "0"))


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_two_ends_of_a_body_are_refused_and_nothing_is_smuggled(
    server: str, log: Logged, version: str
) -> None:
    body = "0\r\n\r\n" + SMUGGLED
    head = HEAD.replace("HTTP/1.1", f"HTTP/{version}")
    text = (
        f"{head}Connection: keep-alive\r\nContent-Length: {len(body)}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    answer = ask(server, text + body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert "where its body ends" in _error(answer)["message"]
    assert log.only(code="malformed_request")["path"] == "/v1/inpaint"
    assert not log.lines(path="/smuggled")


def test_http_1_0_has_no_chunks(server: str) -> None:
    head = HEAD.replace("HTTP/1.1", "HTTP/1.0")
    answer = ask(server, f"{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_body_that_is_no_longer_http_is_refused_by_its_interface(server: str, log: Logged) -> None:
    content = json.dumps(as_json()).encode()[:500]
    head = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    answer = ask(server, head + b"1f4\r\n" + content + b"\r\nzz\r\n" + SMUGGLED.encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert _error(answer)["message"] == "the body is not HTTP"
    assert log.only(code="malformed_request")["path"] == "/v1/inpaint"


@pytest.mark.parametrize(
    "host", ["[", "]", "[::1", "[::::]", "a b", "a/b", "a@b", "a:b", "a:1:2", "ä", "[1.2.3.4]"]
)
def test_a_host_that_is_none_is_refused(server: str, application: FastAPI, host: str) -> None:
    for path in ("/healthz", "/v1/images/nothing", "/sdapi/v1/nothing", "/nothing"):
        answer = ask(server, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n{SMUGGLED}")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8000", "localhost:", "LOCALHOST"]
)
def test_hosts_in_every_spelling_are_taken(server: str, host: str) -> None:
    text = f"GET /info HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert ask(server, text).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["/info", "/openapi.json", "/v1/models", "/sdapi/v1/samplers", "/nothing"])
def test_head_is_get_without_the_body(server: str, path: str) -> None:
    whole, head = httpx.get(server + path), httpx.head(server + path)
    assert head.status_code == whole.status_code
    assert head.content == b""
    assert head.headers["content-type"] == whole.headers["content-type"]


def test_a_path_without_get_has_no_head(server: str) -> None:
    answer = httpx.head(f"{server}/v1/inpaint")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert httpx.post(f"{server}/info").headers["allow"] == "GET, HEAD"


def test_a_name_that_is_very_long_is_not_repeated(server: str) -> None:
    answer = httpx.post(f"{server}/v1/inpaint", json=as_json(**{"x" * 1_000_000: 1}))
    assert answer.status_code == 422
    assert len(answer.content) < 10_000
