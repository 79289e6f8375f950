"""Request ids and the access log."""

import io
import json
import logging
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI

from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.logs import JsonFormatter
from inpaintrt_server.settings import ServerSettings
from server.conftest import Serve, wait_until
from server.uploads import as_json


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the server logs, as JSON lines."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    loggers = [logging.getLogger(name) for name in ("inpaintrt.access", "inpaintrt.server")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield stream
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


def _line(log: io.StringIO, request_id: str, message: str = "request") -> dict[str, object]:
    def lines() -> list[dict[str, object]]:
        found = [json.loads(line) for line in log.getvalue().splitlines()]
        return [line for line in found if (line.get("request_id"), line["message"]) == (request_id, message)]

    wait_until(lambda: len(lines()) == 1)
    return lines()[0]


def test_a_line_tells_of_a_request_without_its_prompt(server: str, log: io.StringIO) -> None:
    body = as_json(prompt="a very private house")
    answer = httpx.post(
        f"{server}/v1/inpaint?secret=1", json=body, headers={"X-Request-Id": "job-1"}, timeout=60
    )
    assert answer.headers["x-request-id"] == "job-1"
    line = _line(log, "job-1")
    assert line["method"] == "POST"
    assert line["path"] == "/v1/inpaint"
    assert line["api"] == "inpaint"
    assert line["status"] == 200
    assert line["sent"] == len(answer.content)
    assert line["received"] == len(answer.request.content)
    assert line["timings"]["steps"] >= 4  # type: ignore[index]
    assert "private" not in log.getvalue()
    assert "secret" not in log.getvalue()


def test_a_line_tells_why_a_request_was_refused(server: str, log: io.StringIO) -> None:
    httpx.post(f"{server}/v1/inpaint", json=as_json(seed="private"), headers={"X-Request-Id": "job-2"})
    line = _line(log, "job-2")
    assert (line["status"], line["code"]) == (422, "invalid_field")
    assert "private" not in log.getvalue()


def test_a_client_that_hung_up_is_in_the_log(server: str, log: io.StringIO) -> None:
    body, headers = as_json(num_inference_steps=200), {"X-Request-Id": "job-3"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server}/v1/inpaint", json=body, headers=headers, timeout=0.3)
    assert _line(log, "job-3")["code"] == "cancelled"


@pytest.mark.parametrize("wanted", ["", "a b", "x" * 65, "ä", "a\tb", '"}'])
def test_an_id_that_is_not_valid_is_replaced(server: str, wanted: str) -> None:
    answer = httpx.get(f"{server}/healthz", headers={b"X-Request-Id": wanted.encode()})
    assert len(answer.headers["x-request-id"]) == 32


def test_every_request_gets_an_id_of_its_own(server: str) -> None:
    ids = {
        httpx.get(f"{server}{path}").headers["x-request-id"] for path in ("/healthz", "/healthz", "/nothing")
    }
    assert len(ids) == 3


def test_a_path_cannot_forge_a_line(server: str, log: io.StringIO) -> None:
    httpx.get(f"{server}/a%0A%7B%22status%22:200%7D", headers={"X-Request-Id": "job-4"})
    assert _line(log, "job-4")["path"] == '/a\n{"status":200}'


@pytest.fixture
def broken(service: BatchingService, settings: ServerSettings) -> FastAPI:
    """An application with a path that has a bug."""
    application = make_application(service, settings)

    def fail() -> None:
        raise ValueError("an inner secret")

    application.add_api_route("/broken", fail, methods=["GET"])
    return application


def test_a_bug_is_logged_and_the_client_hears_little(broken: FastAPI, serve: Serve, log: io.StringIO) -> None:
    answer = httpx.get(f"{serve(broken)}/broken", headers={"X-Request-Id": "job-5"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] == "job-5"
    assert "an inner secret" in str(_line(log, "job-5", "a request failed")["exception"])
