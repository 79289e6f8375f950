"""`POST /v1/inpaint`: what comes back, and in which form."""

import base64
import json
from collections.abc import Iterator

import httpx
import jsonschema_rs
import numpy as np
import pytest

from inpaintrt.loading import LoadedBundle
from inpaintrt.options import OPTIONS
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt_server.apis.inpaint_fields import InpaintFields, InpaintJson
from inpaintrt_server.http.form_schema import json_schema
from runtime.image_tools import largest_difference
from server.uploads import FORM, SCENE, as_json, base64_of, files, opened


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client


def _events(answer: httpx.Response) -> list[tuple[str, dict[str, object]]]:
    """Names and data of server-sent events."""
    parts = [part for part in answer.text.split("\n\n") if part and not part.startswith(":")]
    lines = [part.splitlines() for part in parts]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


def test_a_form_gives_the_image_that_the_pipeline_gives(client: httpx.Client, demo: LoadedBundle) -> None:
    answer = client.post("/v1/inpaint", data=FORM, files=files())
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-seed"] == "7"
    expected = InpaintPipeline(demo)(
        str(FORM["prompt"]), SCENE.image, SCENE.mask, num_inference_steps=4, seed=7
    )
    assert largest_difference(opened(answer.content), expected.images[0]) <= 1


def _metadata(content: bytes) -> dict[str, object]:
    text: dict[str, object] = json.loads(opened(content).text["parameters"])  # type: ignore[attr-defined]
    return text


def test_the_file_says_how_it_was_made(client: httpx.Client) -> None:
    fields = {**FORM, "negative_prompt": "a cloud", "strength": 0.9, "scheduler": "ddim"}
    made = _metadata(client.post("/v1/inpaint", data=fields, files=files()).content)
    assert made.items() >= {**fields, "bundle": "demo", "guidance_scale": 7.5}.items()
    assert str(made["software"]).startswith("inpaintrt ")


def test_a_quality_gives_the_image_of_the_bundles_settings(client: httpx.Client, demo: LoadedBundle) -> None:
    pipeline = InpaintPipeline(demo)
    settings = pipeline.stages.qualities["fast"].options
    plain = {name: value for name, value in FORM.items() if name != "num_inference_steps"}
    answer = client.post("/v1/inpaint", data={**plain, "quality": "fast"}, files=files())
    made = {**settings, "guidance_interval": list(settings["guidance_interval"])}
    assert _metadata(answer.content).items() >= {"quality": "fast", **made}.items()
    expected = pipeline(str(FORM["prompt"]), SCENE.image, SCENE.mask, seed=7, **settings).images[0]
    assert largest_difference(opened(answer.content), expected) <= 1


def test_each_of_several_files_has_its_own_seed(client: httpx.Client) -> None:
    wanted = as_json(num_images_per_prompt=2, seed=[3, 4], stream=True)
    result = _events(client.post("/v1/inpaint", json=wanted))[-1][1]
    images: list[str] = result["images"]  # type: ignore[assignment]
    assert [_metadata(base64.b64decode(image))["seed"] for image in images] == [3, 4]


def test_json_gives_the_same_as_a_form(client: httpx.Client) -> None:
    form = client.post("/v1/inpaint", data=FORM, files=files())
    body = client.post("/v1/inpaint", json=as_json())
    assert body.headers["content-type"] == "image/png"
    assert largest_difference(opened(form.content), opened(body.content)) <= 1


def test_several_results_come_as_json(client: httpx.Client) -> None:
    wanted = as_json(num_images_per_prompt=2, seed=[3, 4], response_format="json")
    answer = client.post("/v1/inpaint", json=wanted).json()
    assert answer["seeds"] == [3, 4]
    assert answer["warnings"] == []
    first, second = (opened(base64.b64decode(image)) for image in answer["images"])
    assert first.size == second.size == SCENE.image.size
    assert largest_difference(first, second) > 5
    timings = answer["timings"]
    assert timings["denoise"] > 0
    assert timings["steps"] >= 4
    assert timings["total"] >= timings["denoise"] + timings["decode"]


@pytest.mark.parametrize(("kind", "name"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_the_file_has_the_type_that_was_asked_for(client: httpx.Client, kind: str, name: str) -> None:
    answer = client.post("/v1/inpaint", json=as_json(output_format=kind, output_quality=80))
    assert answer.headers["content-type"] == f"image/{kind}"
    assert opened(answer.content).format == name


def test_a_lower_quality_makes_a_smaller_file(client: httpx.Client) -> None:
    sizes = [
        len(client.post("/v1/inpaint", json=as_json(output_format="jpeg", output_quality=quality)).content)
        for quality in (20, 95)
    ]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("accept", "field", "expected"),
    [
        (None, None, "image/png"),
        ("*/*", None, "image/png"),
        ("image/png, application/json", None, "image/png"),
        ("application/json", None, "application/json"),
        ("application/json", "image", "image/png"),
        ("text/event-stream", None, "text/event-stream"),
        ("text/event-stream", "json", "application/json"),
    ],
)
def test_the_answer_follows_the_field_and_then_the_header(
    client: httpx.Client, accept: str | None, field: str | None, expected: str
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    answer = client.post("/v1/inpaint", json=as_json(response_format=field), headers=headers)
    assert answer.headers["content-type"].partition(";")[0] == expected


def test_a_stream_tells_of_every_step_and_ends_with_the_result(client: httpx.Client) -> None:
    answer = client.post("/v1/inpaint", json=as_json(stream=True, scheduler="ddim", previews=2))
    events = _events(answer)
    names = [name for name, _ in events]
    assert names[0] == "started"
    assert names[-1] == "result"
    assert [data["step"] for name, data in events if name == "step"] == [1, 2, 3, 4]
    previews = [data for name, data in events if name == "preview"]
    assert [data["step"] for data in previews] == [1, 3]
    result = events[-1][1]
    images = [opened(base64.b64decode(data["images"][0])) for data in (*previews, result)]  # type: ignore[index]
    plain = client.post("/v1/inpaint", json=as_json(scheduler="ddim"))
    assert largest_difference(images[-1], opened(plain.content)) <= 1
    differences = [largest_difference(image, images[-1]) for image in images[:-1]]
    assert min(differences) > 0
    assert result["seeds"] == [7]


@pytest.mark.parametrize("sources", [(), ("image",)], ids=["text-to-image", "image-to-image"])
def test_a_stream_shows_what_is_made_without_a_mask(client: httpx.Client, sources: tuple[str, ...]) -> None:
    absent = {name: None for name in ("image", "mask") if name not in sources}
    body = as_json(**absent, stream=True, previews=2, scheduler="ddim")
    events = _events(client.post("/v1/inpaint", json=body))
    previews = [data["images"][0] for name, data in events if name == "preview"]  # type: ignore[index]
    result = events[-1][1]["images"][0]  # type: ignore[index]
    shown = [opened(base64.b64decode(text)) for text in (*previews, result)]
    assert len(shown) == 3
    assert all(largest_difference(image, shown[-1]) > 0 for image in shown[:-1])


def test_events_are_as_published(client: httpx.Client) -> None:
    responses = client.get("/openapi.json").json()["paths"]["/v1/inpaint"]["post"]["responses"]
    schema = responses["200"]["content"]["text/event-stream"]["schema"]
    validator = jsonschema_rs.validator_for(schema)
    answer = client.post("/v1/inpaint", json=as_json(stream=True, scheduler="ddim", previews=1))
    blocks = [block for block in answer.text.split("\n\n") if block.startswith("event: ")]
    for block in blocks:
        validator.validate(dict(line.split(": ", 1) for line in block.splitlines()))
    assert len(blocks) == len(_events(answer)) == 7
    assert not validator.is_valid({"event": "step"})


def test_a_form_streams_too(client: httpx.Client) -> None:
    answer = client.post("/v1/inpaint", data={**FORM, "stream": "true"}, files=files())
    assert _events(answer)[-1][0] == "result"


def test_a_failure_in_a_stream_is_its_last_event(client: httpx.Client) -> None:
    small = SCENE.mask.resize((64, 64))
    answer = client.post("/v1/inpaint", json=as_json(stream=True, mask=base64_of(small)))
    name, data = _events(answer)[-1]
    assert name == "error"
    assert data["error"]["code"] == "invalid_mask"  # type: ignore[index]


def test_a_warning_reaches_the_client(client: httpx.Client) -> None:
    black = base64_of(SCENE.mask.point(lambda _: 0))
    image = client.post("/v1/inpaint", json=as_json(mask=black))
    assert "nothing to repaint" in json.loads(image.headers["x-warnings"])[0]
    assert largest_difference(opened(image.content), SCENE.image) == 0
    body = client.post("/v1/inpaint", json=as_json(mask=black, response_format="json")).json()
    assert "nothing to repaint" in body["warnings"][0]


def test_without_a_seed_one_is_chosen_and_reported(client: httpx.Client) -> None:
    first = client.post("/v1/inpaint", json=as_json(seed=None))
    again = client.post("/v1/inpaint", json=as_json(seed=int(first.headers["x-seed"])))
    assert largest_difference(opened(first.content), opened(again.content)) <= 1


def test_margins_need_no_mask(client: httpx.Client) -> None:
    form = {**FORM, "margins": ["0", "0", "32", "0"]}
    answer = client.post("/v1/inpaint", data=form, files={"image": files()["image"]})
    assert answer.status_code == 200, answer.text
    width, height = SCENE.image.size
    assert opened(answer.content).size == (width + 32, height)
    assert np.array_equal(np.asarray(opened(answer.content))[:, :width], np.asarray(SCENE.image))


def test_a_form_may_bring_lists(client: httpx.Client) -> None:
    form = {
        **FORM,
        "seed": ["3", "4"],
        "num_images_per_prompt": "2",
        "guidance_interval": ["0.2", "0.8"],
        "response_format": "json",
    }
    answer = client.post("/v1/inpaint", data=form, files=files())
    assert answer.json()["seeds"] == [3, 4]
    form |= {"seed": "[5, 6]", "guidance_interval": "[0, 1]"}
    answer = client.post("/v1/inpaint", data=form, files=files())
    assert answer.json()["seeds"] == [5, 6]
    for text in ("[5, 6", "[" * 100_000, '["a"]'):
        assert client.post("/v1/inpaint", data={**form, "seed": text}, files=files()).status_code == 422


@pytest.mark.parametrize(
    ("texts", "steps"), [(["900", "400.5"], 2), ("[900, 400, 20]", 3), ("900", 1), (["900"], 1)]
)
def test_a_form_may_bring_timesteps(client: httpx.Client, texts: str | list[str], steps: int) -> None:
    form = {**FORM, "timesteps": texts, "scheduler": "euler", "response_format": "json"}
    answer = client.post("/v1/inpaint", data=form, files=files())
    assert answer.status_code == 200, answer.text
    assert answer.json()["timings"]["steps"] == steps


def test_sigmas_give_the_image_that_the_pipeline_gives(client: httpx.Client, demo: LoadedBundle) -> None:
    sigmas = [9.0, 3.0, 0.8, 0.2, 0.0]
    answer = client.post(
        "/v1/inpaint", json=as_json(sigmas=sigmas, scheduler="euler", stream=True, previews=1)
    )
    names = [name for name, _ in _events(answer)]
    assert (names.count("step"), names.count("preview")) == (4, 1)
    images: list[str] = _events(answer)[-1][1]["images"]  # type: ignore[assignment]
    expected = InpaintPipeline(demo)(
        str(FORM["prompt"]), SCENE.image, SCENE.mask, sigmas=sigmas, scheduler="euler", seed=7
    )
    assert largest_difference(opened(base64.b64decode(images[0])), expected.images[0]) <= 1
    published = client.get("/openapi.json").json()["paths"]["/v1/inpaint"]["post"]["requestBody"]["content"]
    lists = published["multipart/form-data"]["schema"]["properties"]
    assert lists["timesteps"]["maxItems"] == 200
    assert lists["sigmas"].items() >= {"minItems": 2, "maxItems": 201}.items()


def test_a_preset_gives_the_image_that_the_pipeline_gives(client: httpx.Client, demo: LoadedBundle) -> None:
    form = {name: value for name, value in FORM.items() if name != "num_inference_steps"}
    form |= {"preset": "hyper-sd-4step", "guidance_scale": "1.5"}
    answer = client.post("/v1/inpaint", data=form, files=files())
    assert answer.status_code == 200, answer.text
    used = {"preset": "hyper-sd-4step", "scheduler": "ddim", "num_inference_steps": 4, "guidance_scale": 1.5}
    assert _metadata(answer.content).items() >= {**used, "timestep_spacing": "trailing"}.items()
    expected = InpaintPipeline(demo)(
        str(FORM["prompt"]),
        SCENE.image,
        SCENE.mask,
        scheduler="ddim",
        timestep_spacing="trailing",
        num_inference_steps=4,
        guidance_scale=1.5,
        seed=7,
    )
    assert largest_difference(opened(answer.content), expected.images[0]) <= 1


def test_a_data_url_is_base64(client: httpx.Client) -> None:
    body = as_json(image=f"data:image/png;base64,{base64_of(SCENE.image)}")
    assert client.post("/v1/inpaint", json=body).status_code == 200


def test_the_time_is_told_in_a_header(client: httpx.Client) -> None:
    answer = client.post("/v1/inpaint", json=as_json())
    stages = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert list(stages) == ["queue", "prepare", "encode", "denoise", "decode", "paste", "total"]
    assert float(stages["total"]) >= float(stages["denoise"]) > 0


def test_options_are_those_of_the_pipeline() -> None:
    ours = InpaintFields(prompt="a house").options()
    arrays = {name for name, option in OPTIONS.items() if option.is_array}
    assert OPTIONS.keys() - ours.keys() == {*arrays, "output_type"}
    assert ours == {name: option.default for name, option in OPTIONS.items() if name in ours}


def test_fields_have_the_descriptions_and_ranges_of_the_options() -> None:
    published = InpaintJson.model_json_schema()["properties"]
    for name in InpaintFields(prompt="a house").options():
        assert published[name]["description"] == OPTIONS[name].description
    assert published["num_inference_steps"].items() >= {"minimum": 1, "maximum": 1000, "default": 50}.items()
    assert published["mask_grow"].items() >= {"minimum": -4096, "maximum": 4096}.items()
    assert published["eta"].items() >= {"minimum": 0, "maximum": 1}.items()
    assert {"type": "number", "minimum": 0, "maximum": 1} in published["strength"]["anyOf"]
    assert {"type": "integer", "minimum": 0, "maximum": 16384} in published["padding_mask_crop"]["anyOf"]
    assert published["long_prompts"]["enum"] == ["truncate", "windows"]
    assert [item["maximum"] for item in published["margins"]["prefixItems"]] == [16384] * 4


def test_a_former_name_of_a_field_works_and_the_result_warns(client: httpx.Client) -> None:
    form = client.post("/v1/inpaint", data={**FORM, "match_colours": "false"}, files=files())
    (warning,) = json.loads(form.headers["x-warnings"])
    assert "'match_colours' is now named 'match_colors'" in warning
    assert _metadata(form.content)["match_colors"] is False
    body = client.post("/v1/inpaint", json=as_json(match_colours=False, response_format="json")).json()
    assert body["warnings"] == [warning]
    today = client.post("/v1/inpaint", json=as_json(match_colors=False, response_format="json")).json()
    assert today["warnings"] == []
    assert _metadata(base64.b64decode(today["images"][0]))["match_colors"] is False
    published = client.get("/openapi.json").json()["paths"]["/v1/inpaint"]["post"]["requestBody"]["content"]
    for kind in ("application/json", "multipart/form-data"):
        assert published[kind]["schema"]["properties"]["match_colours"]["deprecated"] is True


def test_settings_do_not_widen_the_range_of_a_field() -> None:
    limits = {"num_inference_steps": {"maximum": 5000}, "num_images_per_prompt": {"maximum": 8}}
    published = json_schema(InpaintJson, limits)["properties"]
    assert published["num_inference_steps"]["maximum"] == 1000
    assert published["num_images_per_prompt"]["maximum"] == 8
