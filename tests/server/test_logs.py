"""What the process writes: JSON lines, whatever goes wrong, and nothing at all that it needs a disk for."""

import base64
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from server.conftest import wait_until
from server.raw import ask
from server.uploads import FORM, as_json, files, hole

RUN = "from inpaintrt.cli import main; main()"
OPTIONS = ("serve", "demo", "--port", "0", "--backend-options", "threads=1")

# What goes wrong in a running server, as a program and its libraries bring it about.
TROUBLE = """
import asyncio, gc, logging, sys, threading, warnings

noisy = logging.getLogger("noisy")
noisy.addHandler(logging.StreamHandler())
noisy.propagate = False

class Grave:
    def __del__(self):
        raise ValueError("trouble in a finalizer")

async def unheard():
    raise ValueError("trouble in a task")

def in_the_loop():
    raise ValueError("trouble in a callback")

def in_a_thread():
    raise ValueError("trouble in a thread")

async def in_a_request(scope, receive, send):
    raise ValueError("trouble below the application")

def make_trouble(server):
    warnings.warn("trouble that is a warning")
    noisy.warning("trouble in a library")
    logging.getLogger("odd").warning("trouble with %d", "a number")
    print("trouble that is printed", file=sys.stderr)
    print("trouble on the other stream")
    threading.Thread(target=in_a_thread).start()
    Grave()
    asyncio.get_running_loop().call_soon(in_the_loop)
    asyncio.get_running_loop().create_task(unheard())
    server.config.loaded_app = in_a_request

import inpaintrt_server.serving as serving
tick = serving.Server.on_tick

async def on_tick(self, counter):
    if counter == 5:
        make_trouble(self)
    if counter == 7:
        gc.collect()
    if counter == 30:
        raise ValueError("trouble that ends the process")
    return await tick(self, counter)

serving.Server.on_tick = on_tick
"""
TOLD = (
    *("that is a warning", "in a library", "with %d", "that is printed", "on the other stream"),
    *("in a thread", "in a finalizer", "in a callback", "in a task", "below the application"),
    "that ends the process",
)


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_is_json_whatever_goes_wrong(tmp_path: Path) -> None:
    out, errors = tmp_path / "out", tmp_path / "errors"
    with out.open("wb") as stdout, errors.open("wb") as stderr:
        server = subprocess.Popen(
            [sys.executable, "-c", TROUBLE + RUN, *OPTIONS], stdout=stdout, stderr=stderr
        )
    wait_until(lambda: "trouble that is a warning" in errors.read_text(), 120)
    address = next(line["url"] for line in _lines(errors.read_text()) if line["message"] == "listening")
    ask(address, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    ask(address, "NONSENSE\r\n\r\n")
    assert server.wait(120) == 1
    told = [json.dumps(line) for line in _lines(errors.read_text())]
    for trouble in TOLD:
        assert any(f"trouble {trouble}" in line for line in told), trouble
    (refused,) = _lines(out.read_text())
    assert refused["code"] == "malformed_request"


def test_what_keeps_it_from_starting_is_told_to_people() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, *OPTIONS, "--backend", "abacus"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")


Open = Callable[..., tuple[subprocess.Popen[bytes], str, list[str]]]


@pytest.fixture
def start() -> Iterator[Open]:
    """Starts a server whose stderr is a pipe that is read; gives it, its address and the lines so far."""
    with ExitStack() as ends:

        def start(stdout: int | IO[bytes], **more: Any) -> tuple[subprocess.Popen[bytes], str, list[str]]:
            process = subprocess.Popen(
                [sys.executable, "-c", RUN, *OPTIONS], stdout=stdout, stderr=subprocess.PIPE, **more
            )
            ends.callback(process.wait)
            ends.callback(process.kill)
            lines: list[str] = []
            reader = threading.Thread(target=_read, args=(process.stderr, lines))
            reader.start()
            ends.callback(reader.join)
            ends.callback(process.kill)
            wait_until(lambda: any('"ready"' in line for line in lines) or process.poll() is not None, 120)
            address = next(json.loads(line)["url"] for line in lines if '"listening"' in line)
            return process, address, lines

        yield start


def _read(stream: IO[bytes], lines: list[str]) -> None:
    with stream:
        lines.extend(line.decode() for line in iter(stream.readline, b""))


def _paints(address: str) -> None:
    """Every way in, with bodies above a mebibyte."""
    large = bytes(2_000_000)
    name, image, kind = files()["image"]
    form = {**files(), "image": (name, image + large, kind)}
    ours = httpx.post(f"{address}/v1/inpaint", data=FORM, files=form, timeout=60)
    theirs = httpx.post(
        f"{address}/v1/images/edits",
        data={"prompt": "a balloon", "steps": 2},
        files={"image": ("a.png", hole() + large, "image/png")},
        timeout=60,
    )
    body = {**as_json(), "image": base64.b64encode(image + large).decode()}
    webui = {"init_images": [body["image"]], "mask": body["mask"], "prompt": "a balloon", "steps": 2}
    web = httpx.post(f"{address}/sdapi/v1/img2img", json=webui, timeout=60)
    as_text = httpx.post(f"{address}/v1/inpaint", json=body, timeout=60)
    for answer in (ours, theirs, web, as_text):
        assert answer.status_code == 200, answer.text


def test_the_server_writes_no_file(start: Open, tmp_path: Path) -> None:
    """Where files may have no byte, as on a full disk, and the temporary folder is not there."""
    process, address, _ = start(
        subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path / "absent"), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    _paints(address)
    assert httpx.get(f"{address}/readyz").json() == {"status": "ok"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_a_log_that_cannot_be_written_is_told_and_stops_nothing(start: Open) -> None:
    with Path("/dev/full").open("wb") as full:
        process, address, lines = start(full)
    _paints(address)
    ready = httpx.get(f"{address}/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ok", "log": "No space left on device"})
    metrics = httpx.get(f"{address}/metrics").text
    assert "inpaintrt_log_lines_lost_total 5.0" in metrics
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert all(json.loads(line) for line in lines)


def test_a_log_that_nobody_reads_any_more_stops_nothing(start: Open) -> None:
    reading, writing = os.pipe()
    with open(writing, "wb") as pipe:  # noqa: PTH123  a descriptor
        process, address, lines = start(pipe)
    os.close(reading)
    assert httpx.get(f"{address}/healthz").status_code == 200
    assert httpx.get(f"{address}/readyz").json()["log"] == "Broken pipe"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert all(json.loads(line) for line in lines)
