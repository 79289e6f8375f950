"""Presets give the images that diffusers gives when it is set up as the model cards say."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import diffusers
import pytest

from bundles import make_tiny_bundle, make_tiny_checkpoint
from inpaintrt import InpaintPipeline
from inpaintrt.errors import ParameterError, SchedulerError
from inpaintrt.families import FAMILIES
from inpaintrt.options import OPTIONS, Options, make_options
from inpaintrt.presets import PRESETS, presets_for
from inpaintrt.samplers import options_of
from runtime.image_tools import disc_mask, gradient
from runtime.reference import Reference, compare
from runtime.reference_xl import ReferenceXL

# diffusers hands PyTorch tensors to NumPy in its schedulers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

PROMPT = "a red balloon over the hills"
SIDE = 64
IMAGE = gradient(SIDE, SIDE)
SIZE: dict[str, Any] = {"height": SIDE, "width": SIDE}
INPAINTING: dict[str, Any] = {"image": IMAGE, "mask_image": disc_mask(SIDE, SIDE), **SIZE}
TASKS: Mapping[str, dict[str, Any]] = {
    "inpainting": {**INPAINTING, "strength": 1.0},
    "inpainting, strength 0.6": {**INPAINTING, "strength": 0.6},
    "image-to-image, strength 0.6": {"image": IMAGE, "strength": 0.6},
    "text-to-image": SIZE,
}

# What model cards pass to pipelines of diffusers, and the scheduler that they put into them.
Card = tuple[str | None, dict[str, Any], dict[str, Any]]
TRAILING = {"timestep_spacing": "trailing"}
UNGUIDED = {"guidance_scale": 0}


def _euler(steps: int) -> Card:
    return "EulerDiscreteScheduler", TRAILING, {"num_inference_steps": steps, **UNGUIDED}


def _ddim(steps: int) -> Card:
    # The tiny checkpoint of Stable Diffusion says nothing of clipping, which published ones switch off.
    return "DDIMScheduler", {**TRAILING, "clip_sample": False}, {"num_inference_steps": steps, **UNGUIDED}


def _lcm(timesteps: list[int]) -> Card:
    given = {"num_inference_steps": len(timesteps), "timesteps": timesteps}
    return "LCMScheduler", {}, {**given, **UNGUIDED}


CARDS: Mapping[str, Card] = {
    "lcm": ("LCMScheduler", {}, {"num_inference_steps": 4, "guidance_scale": 8.0}),
    "lcm-lora": ("LCMScheduler", {}, {"num_inference_steps": 4, "guidance_scale": 1.0}),
    "tcd": ("TCDScheduler", {}, {"num_inference_steps": 4, "eta": 0.3, **UNGUIDED}),
    "lightning-2step": _euler(2),
    "lightning-4step": _euler(4),
    "lightning-8step": _euler(8),
    "hyper-sd-1step": ("TCDScheduler", {}, {"num_inference_steps": 1, "eta": 1.0, **UNGUIDED}),
    "hyper-sd-1step-unet": _lcm([800]),
    "hyper-sd-2step": _ddim(2),
    "hyper-sd-4step": _ddim(4),
    "hyper-sd-8step": _ddim(8),
    "dmd2-1step": _lcm([399]),
    "dmd2": _lcm([999, 749, 499, 249]),
    "sd-turbo": (None, TRAILING, {"num_inference_steps": 1, **UNGUIDED}),
    "sdxl-turbo": ("EulerAncestralDiscreteScheduler", TRAILING, {"num_inference_steps": 1, **UNGUIDED}),
}
SD = [name for name, preset in PRESETS.items() if "sd" in preset.families and name != "lcm"]
SDXL = [name for name, preset in PRESETS.items() if "sdxl" in preset.families and name != "lcm"]


def check(ours: InpaintPipeline, theirs: Reference | ReferenceXL, name: str, **task: Any) -> None:
    """Ask for a task with a preset, and diffusers with what the model card says."""
    class_name, changes, given = CARDS[name]
    kind = type(theirs.scheduler) if class_name is None else getattr(diffusers, class_name)
    case = {"prompt": PROMPT, "seed": 4, **task}
    found = ours(**case, preset=name, compat="diffusers").images
    # What the task says of steps goes before the card.
    scheduler = kind.from_config(theirs.scheduler.config, **changes)
    compare(found, theirs(**{**given, **case}, scheduler=scheduler))


def check_tasks(ours: InpaintPipeline, theirs: Reference | ReferenceXL, name: str, tasks: list[str]) -> None:
    for title in tasks:
        if PRESETS[name].num_inference_steps > 1 or TASKS[title].get("strength", 1.0) == 1.0:
            check(ours, theirs, name, **TASKS[title])


@pytest.fixture(scope="module")
def sd(tiny_text_to_image_bundle: Path) -> InpaintPipeline:
    return InpaintPipeline.from_bundle(tiny_text_to_image_bundle, threads=1)


@pytest.fixture(scope="module")
def sd_reference(tiny_text_to_image_checkpoint: Path) -> Reference:
    return Reference(tiny_text_to_image_checkpoint)


@pytest.fixture(scope="module")
def sdxl(tiny_sdxl_bundle: Path) -> InpaintPipeline:
    return InpaintPipeline.from_bundle(tiny_sdxl_bundle, threads=1)


@pytest.fixture(scope="module")
def sdxl_reference(tiny_sdxl_checkpoint: Path) -> ReferenceXL:
    return ReferenceXL(tiny_sdxl_checkpoint)


def test_every_preset_has_a_model_card() -> None:
    assert CARDS.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", SD)
def test_stable_diffusion(sd: InpaintPipeline, sd_reference: Reference, name: str) -> None:
    check_tasks(sd, sd_reference, name, list(TASKS))


@pytest.mark.parametrize("name", SD)
def test_inpainting_checkpoint_of_stable_diffusion(
    tiny_bundle: Path, tiny_checkpoint: Path, name: str
) -> None:
    with InpaintPipeline.from_bundle(tiny_bundle, threads=1) as pipe:
        check_tasks(pipe, Reference(tiny_checkpoint), name, ["inpainting", "inpainting, strength 0.6"])


@pytest.mark.parametrize("name", SDXL)
def test_sdxl(sdxl: InpaintPipeline, sdxl_reference: ReferenceXL, name: str) -> None:
    check_tasks(sdxl, sdxl_reference, name, list(TASKS))


@pytest.mark.parametrize("name", SDXL)
def test_inpainting_checkpoint_of_sdxl(
    tiny_sdxl_inpainting_bundle: Path, tiny_sdxl_inpainting_checkpoint: Path, name: str
) -> None:
    reference = ReferenceXL(tiny_sdxl_inpainting_checkpoint)
    with InpaintPipeline.from_bundle(tiny_sdxl_inpainting_bundle, threads=1) as pipe:
        check_tasks(pipe, reference, name, ["inpainting", "inpainting, strength 0.6"])


def test_a_unet_that_takes_the_guidance_scale(bundle_cache: Path) -> None:
    reference = Reference(make_tiny_checkpoint(bundle_cache, "tiny-lcm"))
    with InpaintPipeline.from_bundle(make_tiny_bundle(bundle_cache, name="tiny-lcm"), threads=1) as pipe:
        check_tasks(pipe, reference, "lcm", list(TASKS))


@pytest.mark.parametrize("name", ["sd-turbo", "hyper-sd-1step", "tcd", "lcm-lora"])
def test_other_steps_where_files_are_for_several(
    sd: InpaintPipeline, sd_reference: Reference, name: str
) -> None:
    check(sd, sd_reference, name, num_inference_steps=3, **SIZE)
    check(sd, sd_reference, name, num_inference_steps=2, image=IMAGE, strength=0.5)


def test_other_steps_of_sdxl_turbo(sdxl: InpaintPipeline, sdxl_reference: ReferenceXL) -> None:
    check(sdxl, sdxl_reference, "sdxl-turbo", num_inference_steps=4, **SIZE)
    check(sdxl, sdxl_reference, "sdxl-turbo", num_inference_steps=2, image=IMAGE, strength=0.5)


def resolved(**given: Any) -> Options:
    options = make_options(**given)
    assert make_options(**options) == options, "options that are checked twice change"
    return options


def differences(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
        if value != OPTIONS[name].default
    }


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fills_in_what_is_not_given(name: str) -> None:
    assert differences(resolved(preset=name)) == {"preset": name, **PRESETS[name].options}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"preset": "tcd", "num_inference_steps": 8, "guidance_scale": 1.5, "eta": 0.0},
            {"scheduler": "tcd", "num_inference_steps": 8, "guidance_scale": 1.5},
        ),
        (
            {"preset": "lightning-4step", "timestep_spacing": "leading", "num_inference_steps": 4},
            {
                "scheduler": "euler",
                "timestep_spacing": "leading",
                "num_inference_steps": 4,
                "guidance_scale": 0.0,
            },
        ),
        (
            {"preset": "lightning-4step", "scheduler": None, "guidance_scale": None},
            PRESETS["lightning-4step"].options,
        ),
        (
            {"preset": "dmd2", "timesteps": (900, 700, 400, 100)},
            {**PRESETS["dmd2"].options, "timesteps": (900, 700, 400, 100)},
        ),
        ({"preset": "dmd2", "num_inference_steps": 4}, PRESETS["dmd2"].options),
    ],
    ids=str,
)
def test_what_is_given_goes_before_the_preset(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert differences(resolved(**given)) == {"preset": given["preset"], **expected}


@pytest.mark.parametrize(
    ("scheduler", "kept"),
    [
        ("ddim", {"eta"}),
        ("euler_karras", set()),
        ("lcm", {"timesteps"}),
        ("TCDScheduler", {"eta", "timesteps"}),
        ("tcd:2+euler:2", {"eta"}),
    ],
)
def test_another_sampler_keeps_what_it_takes(scheduler: str, kept: set[str]) -> None:
    assert kept == options_of(scheduler) & {"eta", "timesteps"}
    tcd, dmd2, lightning = (
        differences(resolved(preset=name, scheduler=scheduler)) for name in ("tcd", "dmd2", "lightning-4step")
    )
    assert ("eta" in tcd) == ("eta" in kept)
    assert ("timesteps" in dmd2) == ("timesteps" in kept)
    assert ("timestep_spacing" in lightning) == ("timestep_spacing" in options_of(scheduler))
    assert [found["num_inference_steps"] for found in (tcd, dmd2, lightning)] == [4, 4, 4]


def test_sigmas_take_the_place_of_timesteps() -> None:
    options = resolved(preset="dmd2", scheduler="euler", sigmas=(10.0, 5.0, 2.0, 1.0, 0.0))
    assert options["timesteps"] is None
    assert options["guidance_scale"] == 0.0


def test_every_preset_takes_what_it_sets() -> None:
    names = {field.name for field in fields(next(iter(PRESETS.values())))} & OPTIONS.keys()
    for preset in PRESETS.values():
        assert preset.options.keys() <= names
        sampler_options = preset.options.keys() - {"scheduler", "num_inference_steps", "guidance_scale"}
        assert sampler_options <= options_of(preset.scheduler or "euler")
        assert set(preset.families) <= FAMILIES.keys()
        paper, card = preset.sources
        assert paper.startswith("arXiv:2")
        assert card.startswith("https://huggingface.co/")


@pytest.mark.parametrize(
    ("given", "words", "parameter"),
    [
        ({"preset": "lightning"}, "there is no such preset", "preset"),
        ({"preset": 4}, "there is no such preset", "preset"),
        ({"preset": "lightning-4step", "num_inference_steps": 5}, "another number of steps", None),
        ({"preset": "hyper-sd-1step-unet", "num_inference_steps": 2}, "another number of steps", None),
        ({"preset": "dmd2", "timesteps": (999, 499)}, "another number of steps", "timesteps"),
        ({"preset": "lightning-2step", "sigmas": (9.0, 0.0)}, "another number of steps", "sigmas"),
    ],
    ids=str,
)
def test_what_no_preset_allows_is_refused(given: dict[str, Any], words: str, parameter: str | None) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        make_options(**given)
    assert caught.value.parameter == (parameter or "num_inference_steps")


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(SchedulerError, match="unknown sampler"):
        make_options(preset="tcd", scheduler="dimm")


@pytest.mark.parametrize("name", ["dmd2", "lightning-4step", "sdxl-turbo", "lcm"])
def test_presets_for_other_checkpoints_are_refused(sd: InpaintPipeline, name: str) -> None:
    with pytest.raises(ParameterError, match=f"'{name}' is not for this checkpoint") as caught:
        sd(PROMPT, preset=name)
    assert caught.value.parameter == "preset"
    assert str(caught.value.expected).split(", ") == SD


def test_presets_of_a_checkpoint() -> None:
    def names(family: str, *, guidance_embedding: bool) -> list[str]:
        return [preset.name for preset in presets_for(family, guidance_embedding=guidance_embedding)]

    assert names("sd", guidance_embedding=False) == SD
    assert names("sdxl", guidance_embedding=False) == SDXL
    assert names("sd", guidance_embedding=True) == ["lcm", *SD]


def test_more_steps_than_the_distillation_had(sd: InpaintPipeline) -> None:
    for name in ("lcm-lora", "tcd"):
        with pytest.raises(ParameterError, match="no more steps than its distillation had") as caught:
            sd(PROMPT, preset=name, num_inference_steps=51)
        assert caught.value.parameter == "num_inference_steps"


def test_a_strength_that_leaves_no_step(sd: InpaintPipeline) -> None:
    with pytest.raises(ParameterError, match="strength leaves no step to run") as caught:
        sd(PROMPT, IMAGE, preset="sd-turbo")
    assert caught.value.expected == "strength at least 1 with that many steps"
