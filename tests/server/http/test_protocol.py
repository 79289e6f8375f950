"""Connections of clients that dawdle outside of bodies."""

import socket
import time
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from starlette.responses import Response

from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.settings import ServerSettings
from server.conftest import Serve, wait_until
from server.raw import all_of, connected

ALIVE = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
REFUSED = b"POST /v1/inpaint HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20000\r\n\r\n"

Connect = Callable[[], socket.socket]


@pytest.fixture
def application(service: BatchingService) -> FastAPI:
    """Little patience, and a path with a large answer."""
    settings = ServerSettings(header_timeout=0.3, send_timeout=0.3, keep_alive=2, max_body=10_000)
    application = make_application(service, settings)
    application.add_api_route("/large", lambda: Response(bytes(50_000_000)), methods=["GET"])
    return application


@pytest.fixture
def connect(application: FastAPI, serve: Serve) -> Connect:
    address = serve(application)
    return lambda: connected(address)


def _ask_for_health(connection: socket.socket) -> None:
    connection.sendall(ALIVE)
    answer = b""
    while not answer.endswith(b'{"status":"ok"}'):
        received = connection.recv(1000)
        assert received, "the connection was closed"
        answer += received
    assert b" 200 " in answer


def test_silence_is_cut_off(connect: Connect) -> None:
    with connect() as connection:
        assert all_of(connection) == b""


def test_headers_that_come_byte_by_byte_are_cut_off(connect: Connect) -> None:
    with connect() as connection:
        connection.settimeout(0.01)
        for byte in b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 10_000:
            try:
                connection.sendall(bytes([byte]))
                assert connection.recv(1000) == b""
                return
            except TimeoutError:
                pass
            except OSError:
                return
    pytest.fail("the server still listens")


def test_headers_of_a_second_request_are_cut_off_too(connect: Connect) -> None:
    with connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b" 200 " in connection.recv(1000)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
        assert b"HTTP/1.1" not in all_of(connection)


def test_the_rest_of_a_refused_body_is_not_waited_for(connect: Connect) -> None:
    with connect() as connection:
        connection.sendall(
            b"POST /v1/inpaint HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20000\r\n\r\n" + bytes(10)
        )
        assert b" 413 " in connection.recv(1000)
        connection.sendall(bytes(10))
        assert b"HTTP/1.1" not in all_of(connection)


def test_a_client_that_does_not_read_is_cut_off(application: FastAPI, connect: Connect) -> None:
    with connect() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        connections = application.state.server.server_state.connections
        wait_until(lambda: len(connections) == 1)
        wait_until(lambda: not connections)
        assert len(all_of(connection)) < 50_000_000


def test_requests_in_a_row_are_served(connect: Connect) -> None:
    with connect() as connection:
        for _ in range(3):
            _ask_for_health(connection)


def test_a_client_that_reads_gets_all(connect: Connect) -> None:
    with connect() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert len(all_of(connection)) > 50_000_000


def test_an_idle_connection_is_kept_for_longer_than_headers_may_take(connect: Connect) -> None:
    with connect() as connection:
        _ask_for_health(connection)
        time.sleep(1)
        _ask_for_health(connection)
        assert all_of(connection) == b""  # in the end it is closed


def test_headers_that_began_with_the_request_before_are_cut_off_too(connect: Connect) -> None:
    with connect() as connection:
        began = time.monotonic()
        connection.sendall(ALIVE + b"GET /healthz HTTP/1.1\r\nHost:")
        assert all_of(connection).count(b"HTTP/1.1 ") == 1
        assert time.monotonic() - began < 1.9


def test_the_rest_of_a_refused_body_that_never_comes_is_not_waited_for(connect: Connect) -> None:
    with connect() as connection:
        began = time.monotonic()
        connection.sendall(REFUSED)
        assert all_of(connection).count(b" 413 ") == 1
        assert time.monotonic() - began < 1.9


def test_a_refused_body_that_comes_whole_leaves_the_connection_alive(connect: Connect) -> None:
    with connect() as connection:
        connection.sendall(REFUSED + bytes(10_000))
        answer = b""
        while not answer.endswith(b"}}"):
            answer += connection.recv(1000)
        connection.sendall(bytes(10_000))
        time.sleep(0.6)
        _ask_for_health(connection)
        assert all_of(connection) == b""
