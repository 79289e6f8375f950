"""Request ids and the access log."""

import httpx
import pytest
from fastapi import FastAPI, Request

from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.settings import ServerSettings
from server.conftest import Logged, Serve
from server.uploads import as_json


def test_a_line_tells_of_a_request_without_its_prompt(server: str, log: Logged) -> None:
    body = as_json(prompt="a very private house")
    answer = httpx.post(
        f"{server}/v1/inpaint?secret=1", json=body, headers={"X-Request-Id": "job-1"}, timeout=60
    )
    assert answer.headers["x-request-id"] == "job-1"
    line = log.only(request_id="job-1")
    assert line["method"] == "POST"
    assert line["path"] == "/v1/inpaint"
    assert line["api"] == "inpaint"
    assert line["status"] == 200
    assert line["sent"] == len(answer.content)
    assert line["received"] == len(answer.request.content)
    assert line["timings"]["steps"] >= 4
    assert "private" not in log.text
    assert "secret" not in log.text


def test_a_line_tells_why_a_request_was_refused(server: str, log: Logged) -> None:
    httpx.post(f"{server}/v1/inpaint", json=as_json(seed="private"), headers={"X-Request-Id": "job-2"})
    line = log.only(request_id="job-2")
    assert (line["status"], line["code"]) == (422, "invalid_field")
    assert "private" not in log.text


def test_a_client_that_hung_up_is_in_the_log(server: str, log: Logged) -> None:
    body, headers = as_json(num_inference_steps=200), {"X-Request-Id": "job-3"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server}/v1/inpaint", json=body, headers=headers, timeout=0.3)
    assert log.only(request_id="job-3")["code"] == "cancelled"


@pytest.mark.parametrize("wanted", ["", "a b", "x" * 65, "ä", "a\tb", '"}'])
def test_an_id_that_is_not_valid_is_replaced(server: str, wanted: str) -> None:
    answer = httpx.get(f"{server}/healthz", headers={b"X-Request-Id": wanted.encode()})
    assert len(answer.headers["x-request-id"]) == 32


def test_every_request_gets_an_id_of_its_own(server: str) -> None:
    ids = {
        httpx.get(f"{server}{path}").headers["x-request-id"] for path in ("/healthz", "/healthz", "/nothing")
    }
    assert len(ids) == 3


def test_a_path_cannot_forge_a_line(server: str, log: Logged) -> None:
    httpx.get(f"{server}/a%0A%7B%22status%22:200%7D", headers={"X-Request-Id": "job-4"})
    assert log.only(request_id="job-4")["path"] == '/a\n{"status":200}'


@pytest.fixture
def broken(service: BatchingService, settings: ServerSettings) -> FastAPI:
    """An application with a path that has a bug."""
    application = make_application(service, settings)

    def fail() -> None:
        raise ValueError("an inner secret")

    application.add_api_route("/broken", fail, methods=["GET"])
    return application


def test_a_bug_is_logged_and_the_client_hears_little(broken: FastAPI, serve: Serve, log: Logged) -> None:
    answer = httpx.get(f"{serve(broken)}/broken", headers={"X-Request-Id": "job-5"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] == "job-5"
    assert "an inner secret" in str(log.only(request_id="job-5", message="a request failed")["exception"])


FORWARDED = {
    "X-Forwarded-For": "192.0.2.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example.org",
    "Forwarded": "for=192.0.2.7;host=evil.example.org;proto=https",
}


def _add_path(application: FastAPI) -> None:
    """A path that tells how a request is seen."""

    def seen(request: Request) -> str:
        return f"{request.url} {request.client and request.client.host}"

    application.add_api_route("/seen", seen, methods=["GET"])


@pytest.mark.parametrize(
    ("allowed", "client", "scheme"),
    [
        ((), "127.0.0.1", "http"),
        (("10.0.0.1",), "127.0.0.1", "http"),
        (("127.0.0.0/8",), "192.0.2.7", "https"),
    ],
)
def test_what_a_proxy_forwards_counts_where_the_proxy_is_named(
    service: BatchingService, serve: Serve, log: Logged, allowed: tuple[str, ...], client: str, scheme: str
) -> None:
    application = make_application(service, ServerSettings(forwarded_allow_ips=allowed))
    _add_path(application)
    address = serve(application)
    seen = httpx.get(f"{address}/seen", headers={**FORWARDED, "X-Request-Id": "job-6"}).json()
    assert seen == f"{address.replace('http', scheme)}/seen {client}"
    assert log.only(request_id="job-6")["client"] == client
