"""The client package `webuiapi` against a real server."""

import base64
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import webuiapi  # type: ignore[import-untyped]
from PIL import Image

from inpaintrt.loading import LoadedBundle
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.settings import read_settings
from runtime.image_tools import largest_difference
from server.conftest import Serve, wait_until
from server.uploads import SCENE, base64_of, opened

PROMPT = SCENE.script.prompts[0]
SHORT: dict[str, Any] = {
    "images": [SCENE.image],
    "mask_image": SCENE.mask,
    "prompt": PROMPT,
    "width": 128,
    "height": 128,
    "steps": 4,
    "seed": 3,
}
LONG = {**SHORT, "steps": 200, "sampler_name": "Euler", "denoising_strength": 1.0}
KEYS = ("the first key of two", "the second key of two")


def connect(address: str, **options: Any) -> Any:
    return webuiapi.WebUIApi(baseurl=f"{address}/sdapi/v1", **options)


@pytest.fixture
def client(server: str) -> Any:
    return connect(server)


@pytest.fixture(scope="module")
def pipeline(demo: LoadedBundle) -> InpaintPipeline:
    return InpaintPipeline(demo)


@pytest.fixture
def sent(server: str) -> Iterator[Callable[..., httpx.Response]]:
    """Sends fields to img2img as they are."""
    with httpx.Client(base_url=server, timeout=60) as http:
        images = {"init_images": [base64_of(SCENE.image)], "mask": base64_of(SCENE.mask), "steps": 2}
        yield lambda **fields: http.post("/sdapi/v1/img2img", json={**images, **fields})


def test_the_clients_defaults_are_the_pipelines_image(client: Any, pipeline: InpaintPipeline) -> None:
    result = client.img2img(**SHORT)
    expected = pipeline(
        PROMPT,
        SCENE.image,
        SCENE.mask,
        num_inference_steps=4,
        guidance_scale=7.0,
        strength=0.75,
        seed=3,
        scheduler="euler_a",
        mask_blur=4,
        fill="blur",
        padding_mask_crop=0,
        width=128,
        height=128,
    )
    assert largest_difference(result.image, expected.images[0]) <= 1
    assert result.info["seed"] == 3
    assert result.info["sampler_name"] == "Euler a"
    assert result.image.text["parameters"] == result.info["infotexts"][0]
    assert result.parameters["steps"] == 4
    assert result.parameters.keys().isdisjoint({"init_images", "mask"})


def test_every_field_acts(client: Any, pipeline: InpaintPipeline) -> None:
    result = client.img2img(
        **{**SHORT, "width": 96, "height": 64},
        denoising_strength=1.0,
        mask_blur=2,
        inpainting_fill=1,
        inpaint_full_res=False,
        inpainting_mask_invert=1,
        negative_prompt="night",
        sampler_name="DPM++ 2M",
        scheduler="Karras",
        cfg_scale=4,
        batch_size=2,
        n_iter=2,
        override_settings={"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": "demo"},
    )
    expected = pipeline(
        PROMPT,
        SCENE.image,
        SCENE.mask,
        num_inference_steps=4,
        guidance_scale=4.0,
        seed=[3, 4, 5, 6],
        num_images_per_prompt=4,
        scheduler="dpmpp_2m_karras",
        negative_prompt="night",
        mask_blur=2,
        mask_invert=True,
        clip_skip=1,
        width=96,
        height=64,
    )
    assert result.info["all_seeds"] == [3, 4, 5, 6]
    assert [image.size for image in result.images] == [(96, 64)] * 4
    for image, exact in zip(result.images, expected.images, strict=True):
        assert largest_difference(image, exact) <= 1


def test_a_part_of_a_larger_image_is_painted_and_the_rest_kept(client: Any) -> None:
    large = SCENE.image.resize((300, 200))
    mask = Image.new("L", large.size, 0)
    mask.paste(255, (200, 100, 260, 160))
    result = client.img2img(**{**SHORT, "images": [large], "mask_image": mask}, inpaint_full_res_padding=16)
    assert result.image.size == (300, 200)
    kept = (0, 0, 160, 200)
    assert largest_difference(result.image.crop(kept), large.crop(kept)) == 0
    assert largest_difference(result.image, large) > 0


def test_txt2img_is_the_pipelines_image(client: Any, pipeline: InpaintPipeline) -> None:
    result = client.txt2img(prompt=PROMPT, seed=3, steps=4, width=96, height=64, batch_size=2)
    expected = pipeline(
        PROMPT,
        num_inference_steps=4,
        guidance_scale=7.0,
        seed=[3, 4],
        num_images_per_prompt=2,
        scheduler="euler_a",
        width=96,
        height=64,
    )
    for image, exact in zip(result.images, expected.images, strict=True):
        assert largest_difference(image, exact) <= 1
    assert result.info["all_seeds"] == [3, 4]
    assert result.info["denoising_strength"] is None
    assert result.info["is_using_inpainting_conditioning"] is False
    assert result.image.text["parameters"] == result.info["infotexts"][0]
    assert "Denoising strength" not in result.info["infotexts"][0]
    assert result.parameters["steps"] == 4


def test_txt2img_has_the_checkpoints_size_by_default(server: str, pipeline: InpaintPipeline) -> None:
    body = {"prompt": PROMPT, "seed": 3, "steps": 4, "cfg_scale": 7.5, "sampler_name": "Euler a"}
    answer = httpx.post(f"{server}/sdapi/v1/txt2img", json=body, timeout=60).json()
    expected = pipeline(PROMPT, num_inference_steps=4, seed=3, scheduler="euler_a").images[0]
    assert largest_difference(opened(base64.b64decode(answer["images"][0])), expected) <= 1


def test_img2img_without_a_mask_changes_the_whole_image(client: Any, pipeline: InpaintPipeline) -> None:
    result = client.img2img(**{**SHORT, "mask_image": None}, inpainting_fill=2, mask_blur=9)
    expected = pipeline(
        PROMPT,
        SCENE.image,
        num_inference_steps=4,
        guidance_scale=7.0,
        strength=0.75,
        seed=3,
        scheduler="euler_a",
        width=128,
        height=128,
    )
    assert largest_difference(result.image, expected.images[0]) <= 1
    assert result.info["denoising_strength"] == 0.75
    assert "Denoising strength: 0.75" in result.info["infotexts"][0]
    assert "Mask blur" not in result.info["infotexts"][0]


def test_a_random_seed_is_told_and_can_be_sent_back(client: Any) -> None:
    first = client.img2img(**{**SHORT, "seed": -1})
    again = client.img2img(**{**SHORT, "seed": first.info["seed"]})
    assert largest_difference(first.image, again.image) <= 1


def test_images_may_be_bare_base64_with_line_breaks(sent: Callable[..., httpx.Response]) -> None:
    broken = base64.encodebytes(base64.b64decode(base64_of(SCENE.image))).decode()
    plain = sent(seed=1).json()["images"]
    assert sent(seed=1, init_images=[f"data:image/png;base64,{broken}"]).json()["images"] == plain


def test_answers_can_hold_jpegs_no_images_or_those_that_were_sent(
    sent: Callable[..., httpx.Response],
) -> None:
    jpeg = sent(override_settings={"samples_format": "jpg"}).json()["images"][0]
    assert opened(base64.b64decode(jpeg)).format == "JPEG"
    bare = sent(send_images=False, batch_size=2, seed=1).json()
    assert bare["images"] == []
    assert '"all_seeds": [1, 2]' in bare["info"]
    assert sent(include_init_images=True).json()["parameters"]["mask"] == base64_of(SCENE.mask)
    assert sent(include_init_images=True, mask=None).json()["parameters"]["mask"] is None


def test_a_mask_that_paints_nothing_gives_the_image_back_with_a_warning(client: Any) -> None:
    result = client.img2img(**{**SHORT, "mask_image": Image.new("L", (128, 128), 0)})
    assert largest_difference(result.image, SCENE.image) == 0
    assert "nothing to repaint" in result.info["warnings"][0]


@pytest.mark.parametrize(
    ("fields", "status", "field", "said"),
    [
        ({"restore_faces": True}, 422, "restore_faces", "does not support"),
        ({"tiling": True}, 422, "tiling", "does not support"),
        ({"script_name": "X/Y/Z plot"}, 422, "script_name", "X/Y/Z plot"),
        ({"alwayson_scripts": {"ControlNet": {"args": []}}}, 422, "alwayson_scripts", "ControlNet"),
        ({"subseed_strength": 0.5}, 422, "subseed_strength", "expected: 0"),
        ({"styles": ["anime"]}, 422, "styles", "anime"),
        ({"save_images": True}, 422, "save_images", "does not support"),
        ({"latent_mask": "AAAA"}, 422, "latent_mask", "expected: null"),
        ({"hr_scale": 2}, 422, "hr_scale", "does not have the field"),
        ({"sampler_name": "DPM adaptive"}, 422, "sampler_name", "DPM++ 2M SDE"),
        ({"scheduler": "Align Your Steps"}, 422, "scheduler", "Exponential"),
        ({"override_settings": {"sd_vae": "other"}}, 422, "override_settings.sd_vae", "'None'"),
        ({"prompt": "<lora:x:1> tree"}, 422, "prompt", "without --lora"),
        ({"prompt": "<hypernet:x:1> tree"}, 422, "prompt", "extra network"),
        ({"steps": 1000}, 422, "steps", "too many steps"),
        ({"width": 100}, 422, "width", "multiple"),
        ({"seed": 2**64 - 1, "batch_size": 2}, 422, "", "seed is out of range"),
        ({"init_images": ["http://127.0.0.1:1/image.png"]}, 400, "", "not opened"),
        ({"init_images": ["/etc/hostname"]}, 400, "", "image"),
        ({"init_images": ["file:///etc/hostname"]}, 400, "", "not opened"),
        ({"mask": "https://example.com/mask.png"}, 400, "", "not opened"),
        ({"mask": "AAAA"}, 400, "", "not an image"),
        ({"mask": base64_of(SCENE.mask.resize((64, 64)))}, 400, "", "mask 64 x 64, image 128 x 128"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    sent: Callable[..., httpx.Response], fields: dict[str, Any], status: int, field: str, said: str
) -> None:
    answer = sent(**fields)
    assert answer.status_code == status
    body = answer.json()
    assert body.keys() == {"error", "detail", "body", "errors"}
    assert body["errors"] == field
    assert said in body["detail"]


@pytest.mark.parametrize(
    ("fields", "status", "field", "said"),
    [
        ({"enable_hr": True}, 422, "enable_hr", "does not support"),
        ({"init_images": [base64_of(SCENE.image)]}, 422, "init_images", "does not have the field"),
        ({"mask": base64_of(SCENE.mask)}, 422, "mask", "does not have the field"),
        ({"restore_faces": True}, 422, "restore_faces", "does not support"),
        ({"sampler_name": "DPM adaptive"}, 422, "sampler_name", "DPM++ 2M SDE"),
        ({"prompt": "<lora:x:1> tree"}, 422, "prompt", "without --lora"),
        ({"prompt": "<hypernet:x:1> tree"}, 422, "prompt", "extra network"),
        ({"steps": 1000}, 422, "steps", "too many steps"),
        ({"width": 100}, 422, "width", "multiple"),
        ({"width": 2048, "height": 2048}, 422, "height", "too large"),
    ],
)
def test_what_txt2img_cannot_serve_is_refused_by_name(
    server: str, fields: dict[str, Any], status: int, field: str, said: str
) -> None:
    answer = httpx.post(f"{server}/sdapi/v1/txt2img", json={"prompt": PROMPT, **fields})
    assert answer.status_code == status
    assert answer.json()["errors"] == field
    assert said in answer.json()["detail"]


def test_the_client_hears_of_refusals(client: Any) -> None:
    with pytest.raises(RuntimeError, match="does not support restore_faces"):
        client.img2img(**SHORT, restore_faces=True)
    with pytest.raises(RuntimeError, match="does not support enable_hr"):
        client.txt2img(prompt=PROMPT, enable_hr=True)
    assert client.skip()["error"] == "not_found"


def test_a_known_path_keeps_its_methods(server: str) -> None:
    assert httpx.get(f"{server}/sdapi/v1/img2img").status_code == 405
    wrong = httpx.put(f"{server}/sdapi/v1/options")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, POST")
    assert httpx.get(f"{server}/sdapi/v1/png-info").status_code == 404


def test_the_clients_lists_are_there(client: Any) -> None:
    assert {"Euler a", "DPM++ 2M", "DDIM"} <= set(client.util_get_sampler_names())
    assert client.util_get_scheduler_names() == ["automatic", "beta", "exponential", "karras", "uniform"]
    (title,) = client.util_get_model_names()
    assert title.startswith("demo [")
    assert client.util_get_current_model() == title
    assert client.get_scripts() == {"txt2img": [], "img2img": []}
    assert client.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert client.get_cmd_flags() == {}
    for none in (client.get_loras, client.get_upscalers, client.get_sd_vae, client.get_face_restorers):
        assert none() == []
    assert client.refresh_checkpoints() is None


def test_settings_can_be_read_and_sent_back_but_not_changed(client: Any) -> None:
    settings = client.get_options()
    assert settings["CLIP_stop_at_last_layers"] == 1
    assert client.set_options(settings) is None
    client.util_set_model("demo")
    assert client.set_options({"CLIP_stop_at_last_layers": 2})["errors"] == "CLIP_stop_at_last_layers"
    assert client.set_options({"sd_model_checkpoint": "other"})["errors"] == "sd_model_checkpoint"
    assert client.set_options({"no_such_setting": 1})["errors"] == "no_such_setting"


def under_way(client: Any, results: list[Any], **fields: Any) -> threading.Thread:
    thread = threading.Thread(target=lambda: results.append(client.img2img(**{**LONG, **fields})))
    thread.start()
    return thread


def test_progress_shows_previews_and_interrupt_gives_what_there_is(server: str) -> None:
    client, results = connect(server), list[Any]()
    thread = under_way(connect(server), results, batch_size=2)
    wait_until(lambda: client.get_progress()["state"]["sampling_step"] > 0)
    wait_until(lambda: client.get_progress()["current_image"] is not None)
    now = client.get_progress()
    assert 0 < now["progress"] < 1
    assert now["state"]["sampling_steps"] == 200
    assert now["state"]["job_count"] == 1
    assert now["eta_relative"] > 0
    preview = opened(base64.b64decode(now["current_image"]))
    assert preview.size == SCENE.image.size
    assert httpx.get(f"{server}/sdapi/v1/progress?skip_current_image=true").json()["current_image"] is None
    assert client.interrupt() == {}
    thread.join()
    (result,) = results
    assert result.info["interrupted"] is True
    assert [image.size for image in result.images] == [(128, 128)] * 2
    client.util_wait_for_ready(check_interval=0.01)


def test_without_requests_there_is_no_progress(client: Any, sent: Callable[..., httpx.Response]) -> None:
    now = client.get_progress()
    assert (now["progress"], now["state"]["job_count"], now["current_image"]) == (0, 0, None)
    assert client.interrupt() == {}
    assert sent(force_task_id="mine").status_code == 200


def test_the_password_is_the_key_and_clients_see_their_own_requests_alone(
    service: BatchingService, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("\n".join(KEYS))
    address = serve(make_application(service, read_settings({"api_key_file": tmp_path / "keys"})))
    first, second = (connect(address, username="anybody", password=key) for key in KEYS)
    wrong = connect(address, username="anybody", password="a wrong key")
    assert wrong.get_samplers()["error"] == "unauthorized"
    with pytest.raises(RuntimeError, match="401"):
        wrong.img2img(**SHORT)
    results = list[Any]()
    thread = under_way(first, results, steps=100)
    wait_until(lambda: first.get_progress()["state"]["sampling_step"] > 0)
    assert second.get_progress()["state"]["job_count"] == 0
    second.interrupt()
    assert not first.get_progress()["state"]["interrupted"]
    first.interrupt()
    thread.join()
    assert results[0].info["interrupted"] is True


def test_hanging_up_gives_the_request_up(server: str, service: BatchingService) -> None:
    fields = {"init_images": [base64_of(SCENE.image)], "mask": base64_of(SCENE.mask), "steps": 200}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server}/sdapi/v1/img2img", json=fields, timeout=httpx.Timeout(10, read=0.2))
    wait_until(lambda: service.snapshot.outstanding == 0 and service.snapshot.active == 0)
    assert connect(server).get_progress()["state"]["job_count"] == 0
