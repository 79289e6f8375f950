"""LoRAs through every interface: the pipeline's image, and what is refused."""

import base64
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import openai
import pytest
import webuiapi  # type: ignore[import-untyped]
from PIL import Image

from inpaintrt import InpaintPipeline
from inpaintrt.loading import LoadedBundle
from inpaintrt_server.application import make_application
from inpaintrt_server.batching import BatchingService, BatchingSettings, LoraFiles
from inpaintrt_server.http.metrics import Metrics
from inpaintrt_server.settings import ServerSettings
from runtime.image_tools import largest_difference
from server.conftest import Logged, serving, wait_until
from server.loras import LoraPaths, make_lora
from server.uploads import FORM, SCENE, as_json, base64_of, files, hole, opened, png_of

Paint = Callable[..., Image.Image]

PROMPT = SCENE.script.prompts[0]
SCALES: Mapping[str, float] = MappingProxyType({"style": 0.8, "words": 1.0})
OPENAI: dict[str, Any] = {"prompt": PROMPT, "extra_body": {"steps": 4, "seed": 3}}
WEBUI: dict[str, Any] = {"steps": 4, "seed": 3, "sampler_name": "Euler", "cfg_scale": 7.5}
SMALL = {"width": 128, "height": 128}


@pytest.fixture(scope="module")
def offered(lora_paths: LoraPaths) -> LoraFiles:
    return {name: ((str(getattr(lora_paths, name)), scale),) for name, scale in SCALES.items()}


@pytest.fixture(scope="module")
def lora_metrics(offered: LoraFiles) -> Metrics:
    return Metrics(tuple(offered))


@pytest.fixture(scope="module")
def address(demo: LoadedBundle, offered: LoraFiles, lora_metrics: Metrics) -> Iterator[str]:
    """The address of a server with LoRAs."""
    settings = BatchingSettings(slots=4, queue=16)
    with BatchingService(demo, settings, loras=offered, observer=lora_metrics) as service:
        wait_until(lambda: service.snapshot.ready)
        application = make_application(service, ServerSettings(), metrics=lora_metrics)
        with serving(application) as address:
            yield address


@pytest.fixture(scope="module")
def paint(lora_paths: LoraPaths) -> Paint:
    """What the pipeline paints when it was opened with LoRAs of some weights."""

    def paint(weights: Mapping[str, float], *sources: Image.Image, **options: Any) -> Image.Image:
        loras = [(getattr(lora_paths, name), SCALES[name] * weight) for name, weight in weights.items()]
        inputs: Any = sources
        with InpaintPipeline.from_bundle("demo", loras=loras, threads=1) as pipe:
            images = pipe(PROMPT, *inputs, **{"num_inference_steps": 4, **options}).images
        assert isinstance(images, list)
        return images[0]

    return paint


@pytest.fixture(scope="module")
def expected(paint: Paint) -> Mapping[str, Image.Image]:
    """What `FORM` gives with each LoRA."""
    return {name: paint({name: 1.0}, SCENE.image, SCENE.mask, seed=FORM["seed"]) for name in SCALES}


def post(address: str, path: str, **content: Any) -> httpx.Response:
    return httpx.post(f"{address}{path}", timeout=60, **content)


def test_info_lists_them(address: str, server: str) -> None:
    assert httpx.get(f"{address}/info").json()["loras"] == ["style", "words"]
    assert httpx.get(f"{server}/info").json()["loras"] == []


def test_inpaint_takes_one_by_name(address: str, expected: Mapping[str, Image.Image], log: Logged) -> None:
    form = post(address, "/v1/inpaint", data={**FORM, "lora": "style"}, files=files())
    assert form.status_code == 200, form.text
    image = opened(form.content)
    assert largest_difference(image, expected["style"]) <= 1
    parameters = json.loads(image.text["parameters"])  # type: ignore[attr-defined]
    assert parameters["lora"] == "style"
    assert log.only(message="request")["lora"] == "style"
    body = as_json(lora="words", response_format="json")
    answer = post(address, "/v1/inpaint", json=body).json()
    assert largest_difference(opened(base64.b64decode(answer["images"][0])), expected["words"]) <= 1


def test_without_a_lora_nothing_is_said_of_loras(address: str, log: Logged) -> None:
    for body in (as_json(), as_json(lora=None)):
        answer = post(address, "/v1/inpaint", json=body)
        assert "lora" not in json.loads(opened(answer.content).text["parameters"])  # type: ignore[attr-defined]
    wait_until(lambda: len(log.lines(message="request")) == 2)
    assert not any("lora" in line for line in log.lines(message="request"))


@pytest.mark.parametrize("name", ["paint", "", "style:0.5", "Style"])
def test_inpaint_refuses_names_that_it_does_not_have(address: str, name: str) -> None:
    answer = post(address, "/v1/inpaint", json=as_json(lora=name))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["field"]) == (422, "invalid_parameter", "lora")
    assert (error["received"], error["expected"]) == (name, "style, words")


def test_a_server_without_loras_says_so(server: str) -> None:
    error = post(server, "/v1/inpaint", json=as_json(lora="style")).json()["error"]
    assert error["expected"] == "none: the server was started without --lora"
    assert httpx.get(f"{server}/sdapi/v1/loras").json() == []


def test_streams_come_with_a_lora_too(address: str, expected: Mapping[str, Image.Image]) -> None:
    answer = post(address, "/v1/inpaint", json=as_json(lora="style", stream=True))
    result = json.loads(answer.text.split("event: result\ndata: ")[1].splitlines()[0])
    assert largest_difference(opened(base64.b64decode(result["images"][0])), expected["style"]) <= 1


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def of_openai(answer: openai.types.ImagesResponse) -> Image.Image:
    assert answer.data is not None
    return opened(base64.b64decode(answer.data[0].b64_json or ""))


@pytest.mark.parametrize(
    "given",
    [
        {"extra_body": {"lora": "style"}},
        {"model": "demo:style"},
        {"model": "demo:style", "extra_body": {"lora": "style"}},
        {"model": "auto", "extra_body": {"lora": "style"}},
    ],
)
def test_openais_client_takes_one_as_a_field_or_a_model(
    client: openai.OpenAI, paint: Paint, given: dict[str, Any]
) -> None:
    extra = {**OPENAI["extra_body"], **given.get("extra_body", {})}
    fields = {**OPENAI, **given, "extra_body": extra}
    edited = client.images.edit(image=("image.png", hole(), "image/png"), **fields)
    options = {"seed": 3, "num_inference_steps": 4}
    assert (
        largest_difference(of_openai(edited), paint({"style": 1.0}, SCENE.image, SCENE.mask, **options)) <= 1
    )
    generated = client.images.generate(**fields)
    assert largest_difference(of_openai(generated), paint({"style": 1.0}, **options)) <= 1


def test_openais_list_of_models_has_them(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo", "demo:style", "demo:words"]
    assert client.models.retrieve("demo:style").id == "demo:style"
    assert client.models.retrieve("auto").id == "demo"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("demo:paint")


@pytest.mark.parametrize(
    ("given", "kind", "code", "param"),
    [
        ({"model": "demo:paint"}, openai.NotFoundError, "model_not_found", "model"),
        ({"model": "style"}, openai.NotFoundError, "model_not_found", "model"),
        ({"extra_body": {"lora": "paint"}}, openai.BadRequestError, "invalid_parameter", "lora"),
        (
            {"model": "demo:style", "extra_body": {"lora": "words"}},
            openai.BadRequestError,
            "invalid_field",
            "lora",
        ),
    ],
)
def test_openais_client_gets_exceptions(
    client: openai.OpenAI,
    given: dict[str, Any],
    kind: type[openai.APIStatusError],
    code: str,
    param: str,
) -> None:
    with pytest.raises(kind) as caught:
        client.images.edit(image=("image.png", hole(), "image/png"), prompt=PROMPT, **given)
    assert (caught.value.code, caught.value.param) == (code, param)
    with pytest.raises(kind) as caught:
        client.images.generate(prompt=PROMPT, **given)
    assert (caught.value.code, caught.value.param) == (code, param)


@pytest.mark.parametrize(
    ("tags", "weights"),
    [
        ("<lora:style:0.5>", {"style": 0.5}),
        (" <lora:style>", {"style": 1.0}),
        ("<lyco:style:1>", {"style": 1.0}),
        ("<lora:words:-0.5> <lora:style:0.254>", {"style": 0.25, "words": -0.5}),
        ("<lora:style:0.5><lora:style:0.25>", {"style": 0.75}),
        ("<lora:style:0>", {}),
        ("<lora:style:1><lora:style:-1>", {}),
    ],
)
def test_the_webuis_client_names_them_in_prompts(
    address: str, paint: Paint, tags: str, weights: Mapping[str, float]
) -> None:
    webui = webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1")
    result = webui.txt2img(prompt=PROMPT + tags, **WEBUI, **SMALL)
    assert largest_difference(result.image, paint(weights, seed=3, scheduler="euler")) <= 1
    assert result.info["prompt"] == PROMPT + tags


def test_the_webuis_img2img_takes_them_too(address: str, paint: Paint) -> None:
    webui = webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1")
    prompt = f"<lora:style:0.5>{PROMPT}"
    result = webui.img2img(images=[SCENE.image], prompt=prompt, denoising_strength=0.9, **WEBUI, **SMALL)
    image = paint({"style": 0.5}, SCENE.image, seed=3, strength=0.9, scheduler="euler", num_inference_steps=4)
    assert largest_difference(result.image, image) <= 1


def test_the_webuis_way_to_ignore_them(address: str, paint: Paint) -> None:
    body = {**WEBUI, "prompt": f"{PROMPT}<lora:style:1><lora:paint>", "disable_extra_networks": True}
    answer = post(address, "/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 200, answer.text
    image = opened(base64.b64decode(answer.json()["images"][0]))
    assert largest_difference(image, paint({}, seed=3, scheduler="euler")) <= 1


def test_the_webuis_list_of_loras(address: str) -> None:
    assert httpx.get(f"{address}/sdapi/v1/loras").json() == [
        {"name": name, "alias": name, "path": name, "metadata": {}} for name in SCALES
    ]
    refreshed = post(address, "/sdapi/v1/refresh-loras")
    assert (refreshed.status_code, refreshed.json()) == (200, None)


@pytest.mark.parametrize("path", ["txt2img", "img2img"])
@pytest.mark.parametrize(
    ("prompt", "received"),
    [
        ("a house <lora:paint:0.5>", "received: paint"),
        ("a house <lora:Style>", "received: Style"),
        ("a house <lora:style:much>", "received: <lora:style:much>"),
        ("a house <lora:style:nan>", "received: <lora:style:nan>"),
        ("a house <lora:style:1e999>", "received: <lora:style:1e999>"),
        ("a house <lora:style:>", "received: <lora:style:>"),
        ("a house <lora::1>", "received: <lora::1>"),
        ("a house <lora:>", "received: <lora:>"),
        ("a house <lora:style:0.5:0.8>", "received: <lora:style:0.5:0.8>"),
        ("a house <lora:style:te=0.5>", "received: <lora:style:te=0.5>"),
        ("a house <lora:style", "received: <lora:style"),
        ("a house <lora:style:101>", "expected: -100 to 100"),
    ],
)
def test_the_webui_refuses_tags_that_cannot_be_read(
    address: str, path: str, prompt: str, received: str
) -> None:
    images = {"init_images": [base64_of(SCENE.image)]} if path == "img2img" else {}
    answer = post(address, f"/sdapi/v1/{path}", json={"prompt": prompt, **images})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"] == "prompt"
    assert received in answer.json()["detail"]


def test_a_tag_in_a_negative_prompt_is_refused(address: str) -> None:
    body = {"prompt": PROMPT, "negative_prompt": "<lora:style:1>"}
    answer = post(address, "/sdapi/v1/txt2img", json=body)
    assert (answer.status_code, answer.json()["errors"]) == (422, "negative_prompt")


def test_figures_by_name(address: str, lora_metrics: Metrics) -> None:
    def figure(name: str, **labels: str) -> float:
        return lora_metrics.registry.get_sample_value(f"inpaintrt_{name}", labels) or 0.0

    before = {
        (name, event): figure("lora_events_total", lora=name, event=event)
        for name in SCALES
        for event in ("chosen", "loaded", "dropped")
    }
    assert all(value >= 1 for (_, event), value in before.items() if event == "loaded")
    prompt = f"{PROMPT}<lora:style:0.77><lora:words:0.77>"
    assert post(address, "/sdapi/v1/txt2img", json={**WEBUI, "prompt": prompt}).status_code == 200
    text = httpx.get(f"{address}/metrics").text
    for (name, event), value in before.items():
        grown = int(event != "dropped")
        assert f'inpaintrt_lora_events_total{{event="{event}",lora="{name}"}} {value + grown}' in text
    assert figure("lora_models") >= 2
    assert figure("lora_bytes") > 20_000_000
    assert figure("lora_load_seconds_count") >= 3
    assert "0.77" not in text


def test_a_client_is_told_to_come_back_where_there_is_no_memory(
    demo: LoadedBundle, offered: LoraFiles
) -> None:
    settings = BatchingSettings(slots=2, lora_memory=11_500_000)
    long = as_json(lora="style", num_inference_steps=900, scheduler="ddim", stream=True)
    with (
        BatchingService(demo, settings, loras=offered) as service,
        serving(make_application(service, ServerSettings(max_steps=1000))) as address,
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        with http.stream("POST", "/v1/inpaint", json=long) as running:
            lines = running.iter_lines()
            assert next(lines) == "event: started"
            refused = http.post("/v1/inpaint", json=as_json(lora="words"))
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
            assert refused.json()["error"]["code"] == "model_busy"
            stream = http.post("/v1/inpaint", json=as_json(lora="words", stream=True))
            assert (stream.status_code, "model_busy" in stream.text) == (200, True)
            body = {"prompt": "a house <lora:style:0.5>", "steps": 2}
            tagged = http.post("/sdapi/v1/txt2img", json=body)
            assert (tagged.status_code, tagged.headers["Retry-After"]) == (503, "5")
            assert http.post("/v1/inpaint", json=as_json()).status_code == 200
        wait_until(lambda: service.snapshot.outstanding == 0)
        assert http.post("/v1/inpaint", json=as_json(lora="words")).status_code == 200
        both = http.post("/sdapi/v1/txt2img", json={"prompt": "<lora:style><lora:words>", "steps": 2})
        assert (both.status_code, both.json()["errors"]) == (422, "prompt")
        assert "more memory than this server gives them" in both.json()["detail"]


def test_a_file_that_changes_while_the_server_runs(demo: LoadedBundle, tmp_path: Path) -> None:
    path = make_lora(tmp_path / "style.safetensors", "denoiser", seed=1)
    with (
        BatchingService(demo, BatchingSettings(), loras={"style": ((str(path), 1.0),)}) as service,
        serving(make_application(service, ServerSettings())) as address,
    ):
        path.unlink()
        body = {"prompt": "a house <lora:style:0.5>", "steps": 2}
        answer = post(address, "/sdapi/v1/txt2img", json=body)
        assert (answer.status_code, answer.json()["error"]) == (503, "model_failed")
        assert str(tmp_path) not in answer.text
        assert post(address, "/v1/inpaint", json=as_json(lora="style")).status_code == 200


def test_many_clients_with_different_loras(
    address: str, expected: Mapping[str, Image.Image], paint: Paint
) -> None:
    plain = paint({}, SCENE.image, SCENE.mask, seed=FORM["seed"])
    images: dict[tuple[str | None, int], Image.Image] = {}

    def ask(lora: str | None, index: int) -> None:
        answer = post(address, "/v1/inpaint", json=as_json(lora=lora))
        images[lora, index] = opened(answer.content)

    threads = [
        threading.Thread(target=ask, args=(lora, index)) for index in range(3) for lora in (None, *SCALES)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(images) == 9
    for (lora, _), image in images.items():
        assert largest_difference(image, plain if lora is None else expected[lora]) <= 1


def test_an_edit_with_a_mask_of_its_own_takes_a_lora(client: openai.OpenAI, paint: Paint) -> None:
    edited = client.images.edit(
        image=("image.png", png_of(SCENE.image), "image/png"),
        mask=("mask.png", hole(), "image/png"),
        model="demo:words",
        **OPENAI,
    )
    wanted = paint({"words": 1.0}, SCENE.image, SCENE.mask, seed=3)
    assert largest_difference(of_openai(edited), wanted) <= 1
