"""`inpaintrt serve` as a process: what it prints, whom it serves, and what signals do."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from inpaintrt.cli import app
from inpaintrt.errors import InpaintError
from server.conftest import wait_until
from server.loras import LoraPaths
from server.raw import connected
from server.uploads import as_json

COMMAND = Path(sys.executable).parent / "inpaintrt"
KEYS = ("first-key-0123456789", "second-key-0123456789")
LONG = as_json(num_inference_steps=60)
ENDLESS = {**as_json(num_inference_steps=999, scheduler="ddim", num_images_per_prompt=8), "stream": True}


class Process:
    """A running server, and what it has logged."""

    def __init__(self, folder: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self._logs = folder / "errors"
        self._access = folder / "access"
        with self._logs.open("wb") as errors, self._access.open("wb") as access:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "demo", "--port", "0", "--backend-options", "threads=1", *options],
                stdout=access,
                stderr=errors,
                env={**os.environ, **(environment or {})},
            )

    def lines(self, message: str) -> list[dict[str, str]]:
        """What was logged with a message, that is not being written at this moment."""
        texts = (self._logs.read_text() + self._access.read_text()).splitlines()
        lines = [json.loads(text) for text in texts if text.endswith("}")]
        return [line for line in lines if line["message"].startswith(message)]

    def wait_for(self, message: str, count: int = 1) -> None:
        def logged() -> bool:
            assert self.process.poll() is None or len(self.lines(message)) >= count, self._logs.read_text()
            return len(self.lines(message)) >= count

        wait_until(logged, 120)

    @property
    def address(self) -> str:
        return self.lines("listening")[0]["url"]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def status(self) -> int:
        return self.process.wait(120)


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers that are warm, and ends them after the test."""
    started: list[Process] = []

    def start(*options: str, environment: dict[str, str] | None = None) -> Process:
        process = Process(tmp_path, *options, environment=environment)
        started.append(process)
        process.wait_for("ready")
        return process

    yield start
    for process in started:
        process.process.kill()
        process.process.wait()


def test_sigterm_lets_running_requests_finish(start: Start) -> None:
    server = start()
    with httpx.Client(timeout=120) as client:
        body = {**LONG, "stream": True}
        with client.stream("POST", f"{server.address}/v1/inpaint", json=body) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: started"
            server.signal(signal.SIGTERM)
            server.wait_for("draining")
            assert httpx.get(f"{server.address}/readyz").status_code == 503
            assert httpx.get(f"{server.address}/healthz").status_code == 200
            refused = httpx.post(f"{server.address}/v1/inpaint", json=LONG)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
            assert "event: result" in list(lines)
    assert server.status() == 0


def test_a_second_signal_stops_at_once(start: Start) -> None:
    server = start("--max-steps", "2000")
    with httpx.stream("POST", f"{server.address}/v1/inpaint", json=ENDLESS, timeout=120) as answer:
        assert next(answer.iter_lines()) == "event: started"
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        server.signal(signal.SIGTERM)
        assert server.status() == 1
    assert server.lines("stopped by a second signal")


def test_idle_connections_do_not_delay_the_end(start: Start) -> None:
    server = start()
    with ExitStack() as ends:
        silent, kept, begun, second = (ends.enter_context(connected(server.address)) for _ in range(4))
        for connection in (kept, second):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b" 200 " in connection.recv(1000)
        begun.sendall(b"POST /v1/inpaint HTTP/1.1\r\nHost: 127")
        second.sendall(b"GET /healthz HT")
        with httpx.Client(timeout=60) as client:
            body = {**LONG, "stream": True, "num_inference_steps": 2}
            assert "event: result" in client.post(f"{server.address}/v1/inpaint", json=body).text
            began = time.monotonic()
            server.signal(signal.SIGTERM)
            assert server.status() == 0
        assert time.monotonic() - began < 1
        assert silent.recv(1000) == b""


def test_requests_that_take_too_long_are_cut_off(start: Start) -> None:
    server = start("--max-steps", "2000", "--drain-timeout", "0.2")
    with httpx.stream("POST", f"{server.address}/v1/inpaint", json=ENDLESS, timeout=120) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: started"
        server.signal(signal.SIGINT)
        told = list(lines)
        assert "event: error" in told
        assert any('"draining"' in line for line in told)
    assert server.status() == 1


def test_sighup_rotates_keys_and_keeps_them_where_the_new_file_is_bad(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(KEYS[0])
    server = start("--api-key-file", str(path), "--host", "0.0.0.0")
    address = server.address.replace("0.0.0.0", "127.0.0.1")

    def opens(key: str) -> bool:
        return httpx.get(f"{address}/info", headers={"X-API-Key": key}).status_code == 200

    assert [opens(key) for key in KEYS] == [True, False]
    path.write_text("\n".join(KEYS))
    server.signal(signal.SIGHUP)
    server.wait_for("API keys read again")
    assert [opens(key) for key in KEYS] == [True, True]
    path.write_text(KEYS[1])
    server.signal(signal.SIGHUP)
    server.wait_for("API keys read again", 2)
    assert [opens(key) for key in KEYS] == [False, True]
    path.write_text("")
    server.signal(signal.SIGHUP)
    server.wait_for("the API keys stay as they were")
    assert [opens(key) for key in KEYS] == [False, True]
    assert all(key not in str(server.lines("")) for key in KEYS)


def _page_status(server: Process) -> int:
    with httpx.Client(base_url=server.address, follow_redirects=True) as client:
        return client.get("/").status_code


@pytest.mark.parametrize(("options", "status"), [((), 200), (("--ui",), 200), (("--no-ui",), 405)])
def test_the_page_is_served_unless_it_is_turned_off(
    start: Start, options: tuple[str, ...], status: int
) -> None:
    server = start(*options)
    assert _page_status(server) == status
    server.wait_for("request")
    assert server.lines("request")[0]["api"] == ("ui" if status == 200 else "other")
    server.signal(signal.SIGTERM)
    assert server.status() == 0


def test_the_environment_sets_options_and_the_log_is_json(start: Start) -> None:
    server = start(environment={"INPAINTRT_SLOTS": "3", "INPAINTRT_MAX_STEPS": "7", "INPAINTRT_QUEUE": "1"})
    answer = httpx.get(f"{server.address}/info", headers={"X-Request-Id": "mine"}).json()
    assert (answer["slots"], answer["queue"], answer["limits"]["max_steps"]) == (3, 1, 7)
    server.wait_for("request")
    (line,) = server.lines("request")
    assert (line["request_id"], line["path"]) == ("mine", "/info")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.address)


def test_loras_are_loaded_before_the_server_is_ready(start: Start, lora_paths: LoraPaths) -> None:
    given = ("--lora", f"style={lora_paths.style}:0.8", "--lora", f"style={lora_paths.words}")
    server = start(*given, "--lora", f"detail={lora_paths.detail}")
    assert httpx.get(f"{server.address}/info").json()["loras"] == ["style", "detail"]
    loaded = [line["lora"] for line in server.lines("LoRAs loaded")]
    assert loaded == ["style", "detail"]
    body = as_json(lora="style")
    assert httpx.post(f"{server.address}/v1/inpaint", json=body, timeout=60).status_code == 200
    server.signal(signal.SIGTERM)
    assert server.status() == 0


def test_a_former_name_of_an_option_works_and_is_logged(start: Start) -> None:
    server = start("--picture-cache", "0", environment={"INPAINTRT_PICTURE_CACHE": "1"})
    lines = server.lines("the option")
    assert [(line["level"], line["logger"]) for line in lines] == [("warning", "inpaintrt.server")] * 2
    assert "'picture_cache' is now named 'image_cache'" in lines[0]["message"]
    assert "'INPAINTRT_PICTURE_CACHE' is now named 'INPAINTRT_IMAGE_CACHE'" in lines[1]["message"]


@pytest.fixture
def same_signals() -> Iterator[None]:
    """Signals do in this process what they did before."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def _refused(*options: str) -> str:
    result = CliRunner().invoke(app, ["serve", *options])
    assert isinstance(result.exception, InpaintError)
    return str(result.exception)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_without_keys_others_are_not_served(host: str) -> None:
    assert "--api-key-file" in _refused("demo", "--host", host)


@pytest.mark.usefixtures("same_signals")
def test_what_cannot_work_is_told_before_it_starts(tmp_path: Path) -> None:
    assert "INPAINTRT_SLOTS" in _refused("demo", "--slots", "none")
    assert "inpaintrt export" in _refused("nothing", "--port", "0")
    assert "onnxruntime" in _refused("demo", "--port", "0", "--backend", "abacus")
    assert "threads" in _refused("demo", "--port", "0", "--backend-options", "speed=9")
    assert "No such file" in _refused("demo", "--port", "0", "--api-key-file", str(tmp_path / "absent"))


@pytest.mark.usefixtures("same_signals")
def test_loras_that_cannot_be_applied_are_told_before_it_starts(
    tmp_path: Path, lora_paths: LoraPaths
) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(lora_paths.style.read_bytes()[:-1])
    own = ("demo", "--port", "0", "--backend-options", "threads=1")
    assert "NAME=FILE:SCALE" in CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    assert "look like this" in _refused(*own, "--lora", str(damaged))
    assert "not a whole .safetensors file" in _refused(*own, "--lora", f"style={damaged}")
    assert "No such file" in _refused(*own, "--lora", "style=absent.safetensors")
    given = ("--lora", f"style={lora_paths.style}", "--lora-memory", "1000")
    assert "--lora-memory" in _refused(*own, *given)


def test_a_lora_that_cannot_be_applied_ends_the_process_in_plain_text(tmp_path: Path) -> None:
    arguments = ["serve", "demo", "--port", "0", "--lora", "style=absent.safetensors"]
    result = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "the LoRA file cannot be read" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("same_signals")
def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "--port" in _refused("demo", "--port", str(taken.getsockname()[1]))


def test_the_other_commands_do_without_the_server_extra() -> None:
    code = (
        "import sys; import inpaintrt.cli; "
        "print([name for name in ('fastapi', 'uvicorn', 'pydantic', 'starlette') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
