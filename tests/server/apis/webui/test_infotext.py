import json
from typing import Any

from inpaintrt_server.apis.webui.checkpoint import Checkpoint
from inpaintrt_server.apis.webui.fields import Img2Img, Txt2Img
from inpaintrt_server.apis.webui.infotext import infotexts_of, write_info
from inpaintrt_server.apis.webui.overrides import Overrides
from inpaintrt_server.http.bodies import checked

CHECKPOINT = Checkpoint("mine, the best", "0123456789abcdef" * 4, (512, 512))


def body(**fields: Any) -> Img2Img:
    return checked(Img2Img, {"init_images": ["image"], "mask": "mask", **fields})


def test_the_infotext_has_the_webuis_form() -> None:
    fields = body(
        prompt="a red balloon",
        negative_prompt="fog",
        sampler_name="DPM++ 2M",
        scheduler="karras",
        inpaint_full_res_padding=32,
    )
    overrides = Overrides(clip_skip=1)
    first, second = infotexts_of(fields, overrides, CHECKPOINT, (7, 8), (512, 384))
    lines = first.splitlines()
    assert lines[:2] == ["a red balloon", "Negative prompt: fog"]
    assert lines[2].startswith(
        "Steps: 50, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.0, Seed: 7, Size: 512x384, "
        'Model hash: 0123456789, Model: "mine, the best", Denoising strength: 0.75, Clip skip: 2, '
        "Mask blur: 4, Inpaint area: Only masked, Masked area padding: 32, Version: inpaintrt "
    )
    assert second == first.replace("Seed: 7", "Seed: 8")


def test_what_was_not_asked_for_is_left_out() -> None:
    (text,) = infotexts_of(body(inpaint_full_res=False), Overrides(), CHECKPOINT, (7,), (512, 512))
    for name in ("Negative prompt", "Clip skip", "Inpaint area", "padding"):
        assert name not in text


def test_text_to_image_has_neither_strength_nor_mask() -> None:
    fields = checked(Txt2Img, {"prompt": "a"})
    (text,) = infotexts_of(fields, Overrides(), CHECKPOINT, (7,), (512, 512))
    for name in ("Denoising", "Mask", "Inpaint area"):
        assert name not in text


def test_info_is_json_with_the_webuis_names() -> None:
    text = write_info(
        body(prompt="a", batch_size=2, seed=7),
        Overrides(),
        CHECKPOINT,
        seeds=(7, 8),
        size=(512, 512),
        infotexts=("one", "two"),
        warnings=("thin",),
        interrupted=True,
    )
    info = json.loads(text)
    assert info["all_seeds"] == [7, 8]
    assert info["all_prompts"] == ["a", "a"]
    assert info["infotexts"] == ["one", "two"]
    assert info["warnings"] == ["thin"]
    assert info["interrupted"] is True
    assert info["index_of_first_image"] == 0
    assert info["clip_skip"] == 1
