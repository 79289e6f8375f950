from typing import Any

import pytest

from inpaintrt.request import Options
from inpaintrt_server.apis.openai.errors import error_body, for_openai
from inpaintrt_server.apis.openai.fields import EditFields, GenerationFields
from inpaintrt_server.apis.openai.mapping import edit_options, generation_options
from inpaintrt_server.http.bodies import checked
from inpaintrt_server.http.errors import Problem
from inpaintrt_server.http.refusals import FieldError

SQUARE = (128, 128)


def fields(**given: Any) -> EditFields:
    return checked(EditFields, {"prompt": "a balloon", **given})


def test_defaults_are_the_pipelines() -> None:
    assert edit_options(fields(), SQUARE) == Options(
        negative_prompt=None,
        preset=None,
        quality="exact",
        guidance_scale=7.5,
        strength=None,
        num_images_per_prompt=1,
        seed=None,
        scheduler=None,
        width=None,
        height=None,
        long_prompts="windows",
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"n": "3", "seed": "7"}, {"num_images_per_prompt": 3, "seed": 7}),
        ({"quality": "low"}, {"quality": "fast", "num_inference_steps": None}),
        ({"quality": "medium"}, {"quality": "balanced"}),
        ({"quality": "standard"}, {"quality": "exact"}),
        ({"quality": "high"}, {"quality": "exact"}),
        ({"quality": "hd"}, {"quality": "exact"}),
        ({"quality": "low", "steps": "8"}, {"quality": "fast", "num_inference_steps": 8}),
        ({"strength": "0", "guidance_scale": "0"}, {"strength": 0.0, "guidance_scale": 0.0}),
        ({"negative_prompt": "fog", "scheduler": "ddim"}, {"negative_prompt": "fog", "scheduler": "ddim"}),
        (
            {"preset": "tcd", "quality": "low"},
            {
                "preset": "tcd",
                "quality": None,
                "num_inference_steps": None,
                "guidance_scale": None,
                "scheduler": None,
            },
        ),
        (
            {"preset": "tcd", "steps": "8", "guidance_scale": "1.5", "scheduler": "lcm"},
            {"preset": "tcd", "num_inference_steps": 8, "guidance_scale": 1.5, "scheduler": "lcm"},
        ),
        ({"size": "auto"}, {"width": None, "height": None}),
        ({"size": "128x128"}, {"width": None, "height": None}),
        ({"size": "256x256"}, {"width": 256, "height": 256}),
    ],
)
def test_fields_become_options(given: dict[str, Any], expected: dict[str, Any]) -> None:
    found = edit_options(fields(**given), SQUARE)
    assert {name: found.get(name) for name in expected} == expected


def generation(**given: Any) -> GenerationFields:
    return checked(GenerationFields, {"prompt": "a balloon", **given})


@pytest.mark.parametrize(
    ("size", "sides"), [("auto", (None, None)), ("128x128", (128, 128)), ("96x64", (96, 64))]
)
def test_a_generation_has_the_size_that_is_named(size: str, sides: tuple[int | None, int | None]) -> None:
    options = generation_options(generation(size=size, quality="low", n=2))
    assert (options["width"], options["height"]) == sides
    assert options["strength"] is None
    assert (options["quality"], options["num_images_per_prompt"]) == ("fast", 2)


def test_null_stands_for_the_default_of_a_generations_field() -> None:
    names = [name for name in GenerationFields.model_fields if name != "prompt"]
    assert generation(**dict.fromkeys(names)) == generation()
    with pytest.raises(FieldError) as caught:
        generation(prompt=None)
    assert caught.value.field == "prompt"
    properties = GenerationFields.model_json_schema()["properties"]
    assert all({"type": "null"} in properties[name]["anyOf"] for name in names)


def test_a_generation_ignores_what_changes_nothing() -> None:
    given = {"style": "vivid", "moderation": "low", "quality": "hd", "background": "opaque", "user": "me"}
    assert generation_options(generation(**given)) == generation_options(generation())


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"response_format": "url"}, "response_format"),
        ({"background": "transparent"}, "background"),
        ({"style": "oil"}, "style"),
        ({"moderation": "none"}, "moderation"),
        ({"strength": 0.5}, "strength"),
        ({"partial_images": 1}, "partial_images"),
        ({"size": "8"}, "size"),
    ],
)
def test_a_generation_refuses_by_name(given: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldError) as caught:
        generation(**given)
    assert caught.value.field == field


def test_sizes_may_be_off_by_rounding_but_not_distort() -> None:
    assert edit_options(fields(size="512x384"), (1001, 750))["width"] == 512
    with pytest.raises(FieldError) as caught:
        edit_options(fields(size="1024x1024"), (768, 512))
    assert caught.value.field == "size"
    assert caught.value.received == "1024x1024 for an image of 768x512"


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"response_format": "url"}, "response_format", "b64_json"),
        ({"background": "transparent"}, "background", "opaque"),
        ({"output_format": "gif"}, "output_format", "png, jpeg or webp"),
        ({"output_format": "svg"}, "output_format", "png, jpeg or webp"),
        ({"output_compression": "50"}, "output_compression", "jpeg or webp"),
        ({"partial_images": "2"}, "partial_images", "stream true"),
        ({"partial_images": "4", "stream": "true"}, "partial_images", "less than or equal to 3"),
        ({"stream": "true", "n": "2"}, "n", "stream false"),
        ({"n": "0"}, "n", "greater than or equal to 1"),
        ({"size": "big"}, "size", "match"),
        ({"size": "0x64"}, "size", "match"),
        ({"quality": "max"}, "quality", "low"),
        ({"steps": "many"}, "steps", "integer"),
        ({"strength": "nan"}, "strength", "finite"),
        ({"guidance_scale": "1e308"}, "guidance_scale", "less than or equal to 50"),
        ({"markup": "text"}, "markup", "does not have the field"),
        ({"frame_count": "2"}, "frame_count", "does not have the field"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(given: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(FieldError) as caught:
        fields(**given)
    assert caught.value.field == field
    assert said in str(caught.value)


def test_fields_that_change_nothing_are_taken() -> None:
    plain = fields().model_dump()
    found = fields(
        user="me",
        safety_identifier="me",
        input_fidelity="low",
        quality="standard",
        background="auto",
        output_compression="100",
        response_format="b64_json",
    ).model_dump()
    for name in ("user", "safety_identifier", "input_fidelity", "quality", "output_compression"):
        del plain[name], found[name]
    assert found == plain


@pytest.mark.parametrize(
    ("problem", "status", "kind", "param", "code"),
    [
        (Problem(422, "invalid_field", "no", field="n"), 400, "invalid_request_error", "n", "invalid_field"),
        (Problem(422, "unknown_sampler", "no"), 400, "invalid_request_error", "scheduler", "unknown_sampler"),
        (Problem(400, "invalid_mask", "no"), 400, "invalid_request_error", "mask", "invalid_mask"),
        (
            Problem(404, "not_found", "no", field="model"),
            404,
            "invalid_request_error",
            "model",
            "model_not_found",
        ),
        (Problem(404, "not_found", "no"), 404, "invalid_request_error", None, "not_found"),
        (Problem(429, "queue_full", "no"), 429, "rate_limit_error", None, "queue_full"),
        (Problem(503, "draining", "no"), 503, "server_error", None, "draining"),
    ],
)
def test_problems_get_the_status_and_the_words_of_openai(
    problem: Problem, status: int, kind: str, param: str | None, code: str
) -> None:
    adapted = for_openai(problem)
    assert adapted.status == status
    assert error_body(adapted) == {"error": {"message": "no", "type": kind, "param": param, "code": code}}


def test_a_request_out_of_time_is_not_to_be_repeated() -> None:
    assert for_openai(Problem(504, "deadline_exceeded", "late")).headers == {"x-should-retry": "false"}
    assert for_openai(Problem(503, "draining", "no", headers={"Retry-After": "5"})).headers == {
        "Retry-After": "5"
    }


def test_the_message_says_everything() -> None:
    problem = Problem(400, "invalid_mask", "wrong size", received="a", expected="b", what_to_do="c")
    assert error_body(problem)["error"]["message"] == "wrong size; received: a; expected: b; what to do: c"
