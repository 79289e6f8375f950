"""How the server is."""

import httpx
import msgspec
from fastapi import FastAPI

from inpaintrt.loading import LoadedBundle
from inpaintrt.presets import PRESETS, presets_for
from inpaintrt.samplers import sampler_names
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService, BatchingSettings
from inpaintrt_server.settings import ServerSettings
from server.conftest import Serve


def test_a_running_server_is_alive_and_ready(server: str) -> None:
    for path in ("/healthz", "/readyz"):
        answer = httpx.get(server + path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_service_that_is_not_warm_is_alive_and_not_ready(demo: LoadedBundle, serve: Serve) -> None:
    cold = BatchingService(demo, BatchingSettings())
    address = serve(make_application(cold, ServerSettings()))
    assert httpx.get(f"{address}/healthz").status_code == 200
    answer = httpx.get(f"{address}/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "warming up"})
    cold.close()


def test_information(server: str, application: FastAPI) -> None:
    answer = httpx.get(f"{server}/info").json()
    settings: ServerSettings = application.state.context.settings
    assert answer["bundle"] == "demo"
    assert answer["backend"] == "onnxruntime"
    assert answer["tasks"] == ["inpainting", "image-to-image", "text-to-image"]
    assert answer["native_size"] == [128, 128]
    assert answer["vae_scale_factor"] == 8
    assert answer["samplers"] == list(sampler_names())
    presets = {preset.pop("name"): preset for preset in answer["presets"]}
    assert list(presets) == [preset.name for preset in presets_for("sd", guidance_embedding=False)]
    assert presets["tcd"]["eta"] == PRESETS["tcd"].eta
    assert presets["hyper-sd-4step"]["exact"] is True
    assert presets["sd-turbo"] == {
        "purpose": PRESETS["sd-turbo"].purpose,
        "scheduler": None,
        "num_inference_steps": 1,
        "guidance_scale": 0.0,
        "eta": None,
        "timestep_spacing": "trailing",
        "timesteps": None,
        "exact": False,
        "sources": list(PRESETS["sd-turbo"].sources),
    }
    stages = application.state.context.service.stages
    assert answer["qualities"].keys() == {"balanced", "fast"}
    for word, found in answer["qualities"].items():
        measured = stages.manifest.quality.get(word)
        assert found.pop("time_ratio") == (None if measured is None else measured.time_ratio)
        assert found.pop("exact_steps") == (None if measured is None else measured.exact_steps)
        found["guidance_interval"] = tuple(found["guidance_interval"])
        assert found == msgspec.structs.asdict(stages.qualities[word])
    assert answer["limits"]["max_body"] == settings.max_body
    assert answer["formats"] == ["PNG", "JPEG", "WebP"]
    assert answer["uptime"] >= 0


def test_figures_are_in_the_format_of_prometheus(server: str) -> None:
    answer = httpx.get(f"{server}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE inpaintrt_step_seconds histogram" in answer.text
