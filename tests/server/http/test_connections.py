"""Connections beyond the limit: health still answers, everything else is told to come back."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from fastapi import FastAPI

from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.http.connections import Connection, Connections
from inpaintrt_server.settings import ServerSettings
from server.conftest import Logged, Serve, wait_until
from server.raw import all_of, connected

LIMIT = 3
RESERVE = 64


@pytest.fixture
def crowded(service: BatchingService) -> FastAPI:
    return make_application(service, ServerSettings(max_connections=LIMIT))


@pytest.fixture
def address(crowded: FastAPI, serve: Serve) -> str:
    return serve(crowded)


@pytest.fixture
def flood(crowded: FastAPI, address: str) -> Iterator[list[socket.socket]]:
    """As many idle connections as have a place."""
    with ExitStack() as ends:
        open_ones = [ends.enter_context(connected(address)) for _ in range(LIMIT)]
        wait_until(lambda: len(crowded.state.context.connections) == LIMIT)
        yield open_ones


@pytest.mark.usefixtures("flood")
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_answer_beyond_the_limit(address: str, path: str) -> None:
    assert httpx.get(address + path).status_code == 200
    assert httpx.head(address + path).status_code == 200


@pytest.mark.usefixtures("flood")
def test_all_else_is_refused_counted_and_logged(address: str, log: Logged) -> None:
    answer = httpx.get(f"{address}/info")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "too_many_connections"
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["connection"] == "close"
    assert log.only(code="too_many_connections")["path"] == "/info"
    openai = httpx.post(f"{address}/v1/images/edits").json()
    assert openai["error"]["type"] == "server_error"
    counted = 'inpaintrt_refused_total{reason="too_many_connections"} 2.0'
    assert counted in httpx.get(f"{address}/metrics").text


def test_a_place_that_becomes_free_is_given_to_who_waits(
    crowded: FastAPI, address: str, flood: list[socket.socket]
) -> None:
    with httpx.Client(base_url=address) as client:
        assert client.get("/healthz").status_code == 200
        flood[0].close()
        wait_until(lambda: len(crowded.state.context.connections) == LIMIT)
        assert client.get("/info").status_code == 200


@pytest.mark.usefixtures("flood")
def test_a_flood_beyond_the_reserve_turns_out_the_oldest_and_health_still_answers(
    crowded: FastAPI, address: str, log: Logged
) -> None:
    connections = crowded.state.context.connections
    with ExitStack() as ends:
        beyond = [ends.enter_context(connected(address)) for _ in range(RESERVE + 2)]
        head, _, body = all_of(beyond[0]).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in head
        assert json.loads(body)["error"]["code"] == "too_many_connections"
        assert all_of(beyond[1]).startswith(b"HTTP/1.1 503 ")
        assert httpx.get(f"{address}/healthz").status_code == 200
        assert len(connections) <= LIMIT + RESERVE
        assert len(log.lines(code="too_many_connections")) >= 2
    wait_until(lambda: len(connections) <= LIMIT)


def test_nobody_is_taken_in_where_all_of_the_reserve_is_busy() -> None:
    connections = Connections(1, reserve=1)
    first, second, third = (Connection() for _ in range(3))
    assert connections.enter(first, lambda: False)
    assert connections.enter(second, lambda: False)
    assert not connections.enter(third, lambda: False)
    assert connections.has_place(first)
    assert not connections.has_place(second)
    connections.leave(first)
    assert connections.has_place(second)


def test_who_leaves_makes_room() -> None:
    connections = Connections(1, reserve=1)
    first, second, third = (Connection() for _ in range(3))

    def leave() -> bool:
        connections.leave(second)
        return True

    connections.enter(first, lambda: False)
    connections.enter(second, leave)
    assert connections.enter(third, lambda: False)
    assert len(connections) == 2
    assert not connections.has_place(second)
