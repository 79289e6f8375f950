"""The process dies in the middle of a step: clients notice at once, and a new process serves as before."""

import json
import threading
from pathlib import Path

import httpx
import pytest

from inpaintrt_bench.load.server import ServedProcess
from server.uploads import FORM, files

ROOT = Path(__file__).parents[3]
LONG = {**FORM, "num_inference_steps": "200", "stream": "true"}
WAITING = 3


def _follow_until_it_breaks(address: str, running: threading.Event, errors: list[Exception]) -> None:
    try:
        with httpx.stream("POST", f"{address}/v1/inpaint", data=LONG, files=files(), timeout=60) as answer:
            for line in answer.iter_lines():
                if line == "event: step":
                    running.set()
    except httpx.TransportError as error:
        errors.append(error)


def test_a_killed_server_is_noticed_and_the_next_one_serves_the_same_images() -> None:
    errors: list[Exception] = []
    running = threading.Event()
    with ServedProcess("demo") as server:
        before = httpx.post(f"{server.url}/v1/inpaint", data=FORM, files=files(), timeout=60)
        clients = [
            threading.Thread(target=_follow_until_it_breaks, args=(server.url, running, errors))
            for _ in range(WAITING)
        ]
        for client in clients:
            client.start()
        assert running.wait(60)
        server.kill()
        for client in clients:
            client.join(60)
        assert len(errors) == WAITING
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/healthz")
    with ServedProcess("demo") as server:
        after = httpx.post(f"{server.url}/v1/inpaint", data=FORM, files=files(), timeout=60)
        assert before.status_code == after.status_code == 200
        assert before.content == after.content


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_the_images_ask_a_living_server_for_its_health(server: str, name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    (check,) = (line for line in lines if line.startswith("HEALTHCHECK"))
    _, option, code = json.loads(check.partition(" CMD ")[2])
    assert option == "-c"
    exec(code.replace("http://127.0.0.1:8000", server), {})
    with pytest.raises(OSError, match="refused"):
        exec(code.replace(":8000", ":9"), {})
