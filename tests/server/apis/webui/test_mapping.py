from typing import Any

import pytest

from inpaintrt.bundle import load_manifest
from inpaintrt.request import Options
from inpaintrt.store import find_bundle
from inpaintrt_server.apis.webui.checkpoint import Checkpoint
from inpaintrt_server.apis.webui.fields import Generation, Img2Img, Txt2Img
from inpaintrt_server.apis.webui.mapping import options_of, prompt_of
from inpaintrt_server.apis.webui.neutral import IMG2IMG, TXT2IMG
from inpaintrt_server.apis.webui.overrides import read_overrides
from inpaintrt_server.http.bodies import checked
from inpaintrt_server.http.refusals import FieldError

CHECKPOINT = Checkpoint.of(load_manifest(find_bundle("demo")))


def body(**fields: Any) -> Img2Img:
    return checked(Img2Img, {"init_images": ["image"], "mask": "mask", **fields})


def options(**fields: Any) -> Options:
    return mapped(body(**fields))


def mapped(fields: Generation) -> Options:
    return options_of(fields, read_overrides(fields.override_settings, CHECKPOINT), CHECKPOINT)


def test_defaults_are_the_webuis_at_the_checkpoints_size() -> None:
    assert options(seed=5) == Options(
        negative_prompt=None,
        num_inference_steps=50,
        guidance_scale=7.0,
        strength=0.75,
        num_images_per_prompt=1,
        eta=0.0,
        seed=(5,),
        scheduler="euler",
        padding_mask_crop=0,
        height=128,
        width=128,
        clip_skip=None,
        long_prompts="windows",
        mask_blur=4.0,
        mask_invert=False,
        fill="blur",
    )


def test_txt2img_has_the_same_defaults_without_an_image() -> None:
    image_options = ("strength", "padding_mask_crop", "mask_blur", "mask_invert", "fill")
    expected = {name: value for name, value in options(seed=5).items() if name not in image_options}
    assert mapped(checked(Txt2Img, {"seed": 5})) == expected


def test_without_a_mask_its_fields_change_nothing() -> None:
    of_mask = {"mask_blur": 9, "inpainting_fill": 2, "inpainting_mask_invert": 1, "inpaint_full_res": True}
    found = options(seed=5, mask=None, **of_mask)
    assert found == {**mapped(checked(Txt2Img, {"seed": 5})), "strength": 0.75}
    with pytest.raises(FieldError, match="stretched"):
        options(mask=None, resize_mode=1)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"negative_prompt": "fog"}, {"negative_prompt": "fog"}),
        (
            {"steps": 7, "cfg_scale": 3, "denoising_strength": 0.5},
            {"num_inference_steps": 7, "strength": 0.5},
        ),
        ({"inpainting_fill": 1}, {"fill": "original"}),
        ({"inpainting_fill": 2}, {"fill": "noise"}),
        ({"inpainting_fill": 3}, {"fill": "grey"}),
        ({"inpaint_full_res": False}, {"padding_mask_crop": None}),
        ({"inpaint_full_res": 1, "inpaint_full_res_padding": 32}, {"padding_mask_crop": 32}),
        ({"inpainting_mask_invert": 1}, {"mask_invert": True}),
        ({"mask_blur": 9, "mask_blur_x": 1}, {"mask_blur": 9.0}),
        ({"mask_blur_x": 2, "mask_blur_y": 2}, {"mask_blur": 2.0}),
        ({"width": 64, "height": 96}, {"width": 64, "height": 96}),
        ({"seed": 7, "batch_size": 2, "n_iter": 2}, {"seed": (7, 8, 9, 10), "num_images_per_prompt": 4}),
        ({"sampler_name": "DPM++ 2M", "scheduler": "karras"}, {"scheduler": "dpmpp_2m_karras"}),
        ({"sampler_index": "DDIM"}, {"scheduler": "ddim", "eta": 0.0}),
        ({"sampler_name": "DDIM", "eta": 1.0}, {"eta": 1.0}),
        ({"sampler_name": "Euler a", "eta": 1.0}, {"eta": 0.0}),
        ({"sampler_name": "Euler", "eta": 0.5}, {"eta": 0.0}),
        ({"resize_mode": 2}, {"padding_mask_crop": 0}),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, {"clip_skip": 1}),
        (
            {"steps": None, "sampler_name": None, "mask_blur": None},
            {"num_inference_steps": 50, "mask_blur": 4.0},
        ),
    ],
)
def test_fields_become_options(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = options(**fields)
    assert {name: found.get(name) for name in expected} == expected


def test_a_seed_of_minus_one_is_chosen_anew() -> None:
    chosen = {options()["seed"] for _ in range(4)}
    assert len(chosen) > 1
    assert all(isinstance(seeds, tuple) and 0 <= seeds[0] < 2**32 for seeds in chosen)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"resize_mode": 1, "inpaint_full_res": False}, "resize_mode"),
        ({"mask_blur_x": 1, "mask_blur_y": 2}, "mask_blur_y"),
        ({"sampler_name": "Euler a", "eta": 0.5}, "eta"),
        ({"sampler_name": "No such sampler"}, "sampler_name"),
        ({"negative_prompt": "(fog:1.4)"}, "negative_prompt"),
        (
            {"override_settings": {"emphasis": "None"}, "override_settings_restore_afterwards": False},
            "override_settings_restore_afterwards",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldError) as caught:
        options(**fields)
    assert caught.value.field == field


PATHS = {Img2Img: IMG2IMG, Txt2Img: TXT2IMG}
NEUTRAL = [(model, name) for model, unsupported in PATHS.items() for name in unsupported.neutral]


def of(model: type[Generation], **fields: Any) -> Generation:
    return checked(model, {**({"init_images": ["image"]} if model is Img2Img else {}), **fields})


@pytest.mark.parametrize(("model", "name"), NEUTRAL)
def test_unsupported_fields_may_hold_their_neutral_values_alone(model: type[Generation], name: str) -> None:
    for value in (None, *PATHS[model].neutral[name]):
        assert of(model, **{name: value}) == of(model)
    with pytest.raises(FieldError, match=f"does not support {name}") as caught:
        of(model, **{name: ["something"]})
    assert caught.value.field == name


@pytest.mark.parametrize("model", PATHS)
def test_ignored_fields_change_nothing(model: type[Generation]) -> None:
    assert of(model, **dict.fromkeys(PATHS[model].ignored, "anything")) == of(model)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"hr_scale": 2}, "hr_scale"),
        ({"seed": 2**64}, "seed"),
        ({"steps": 0}, "steps"),
        ({"batch_size": 10**9}, "batch_size"),
        ({"n_iter": 10**400}, "n_iter"),
        ({"cfg_scale": float("nan")}, "cfg_scale"),
        ({"cfg_scale": 1e308}, "cfg_scale"),
        ({"init_images": ["one", "two"]}, "init_images"),
        ({"init_images": []}, "init_images"),
        ({"mask": 7}, "mask"),
        ({"inpainting_fill": 4}, "inpainting_fill"),
    ],
)
def test_wrong_fields_are_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldError) as caught:
        body(**fields)
    assert caught.value.field == field


@pytest.mark.parametrize("model", PATHS)
def test_the_schema_tells_of_every_field(model: type[Generation]) -> None:
    schema = model.model_json_schema()
    unsupported = PATHS[model]
    assert schema["additionalProperties"] is False
    assert schema.get("required", []) == (["init_images"] if model is Img2Img else [])
    assert schema["properties"]["tiling"]["enum"] == [None, False]
    assert schema["properties"].keys() == {*model.model_fields, *unsupported.neutral, *unsupported.ignored}
    assert schema["properties"]["steps"]["anyOf"] == [{"type": "integer", "minimum": 1}, {"type": "null"}]


def test_the_prompt_loses_its_escapes() -> None:
    fields = body(prompt=r"a balloon \(red\)")
    assert prompt_of(fields, read_overrides({}, CHECKPOINT)) == "a balloon (red)"
