"""Bodies: too large, too slow, given up."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.http.limits import BodyLimits
from inpaintrt_server.settings import ServerSettings
from server.conftest import Serve, wait_until
from server.uploads import FORM, files

SIZE = 20_000


@pytest.fixture
def address(service: BatchingService, serve: Serve) -> str:
    """A server for small bodies that come fast."""
    return serve(make_application(service, ServerSettings(max_body=SIZE, body_timeout=0.4)))


def _too_large(answer: httpx.Response) -> None:
    assert answer.status_code == 413, answer.text
    assert answer.json()["error"]["code"] == "body_too_large"
    assert str(SIZE) in answer.json()["error"]["expected"]


def test_a_body_that_announces_too_much(address: str, service: BatchingService) -> None:
    _too_large(httpx.post(f"{address}/v1/inpaint", content=bytes(SIZE + 1), headers={"Content-Type": "x"}))
    parts = {**files(), "image": ("a.png", bytes(SIZE), "image/png")}
    _too_large(httpx.post(f"{address}/v1/inpaint", data=FORM, files=parts))
    assert service.snapshot.outstanding == 0


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_a_body_that_announces_nothing(address: str, service: BatchingService, kind: str) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(SIZE // 1000 + 1):
            yield bytes(1000)

    _too_large(httpx.post(f"{address}/v1/inpaint", content=chunks(), headers={"Content-Type": kind}))
    wait_until(lambda: service.snapshot.outstanding == 0)


def test_a_body_that_fits_is_taken(address: str) -> None:
    assert httpx.post(f"{address}/v1/inpaint", data=FORM, files=files(), timeout=60).status_code == 200


def _begin(address: str, body: bytes, *headers: str) -> socket.socket:
    """Send the headers of a request for 10,000 bytes and the first of them."""
    host, _, port = address.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    lines = ("POST /v1/inpaint HTTP/1.1", f"Host: {host}", "Content-Length: 10000", *headers, "", "")
    connection.sendall("\r\n".join(lines).encode() + body)
    return connection


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_a_body_that_stalls(address: str, service: BatchingService, kind: str) -> None:
    with _begin(address, b"--b\r\n", f"Content-Type: {kind}") as connection:
        assert b" 408 " in connection.recv(1000)
    wait_until(lambda: service.snapshot.outstanding == 0)


def test_a_client_that_leaves_in_the_middle_of_a_body(address: str, service: BatchingService) -> None:
    connection = _begin(address, b"{", "Content-Type: application/json")
    wait_until(lambda: service.snapshot.outstanding == 1)
    connection.close()
    wait_until(lambda: service.snapshot.outstanding == 0)


def test_patience_grows_with_what_has_come_but_not_for_ever() -> None:
    limits = BodyLimits(size=10**9, seconds=60, rate=1000)
    assert limits.patience(0) == 5
    assert limits.patience(20_000) == 25
    assert limits.patience(10**8) == 60
    assert BodyLimits(size=1, seconds=2, rate=1000).patience(0) == 2
