"""Buckets and static shapes."""

import msgspec
import pytest

from inpaintrt.bundle import CACHED_FEATURE, SHALLOW_DENOISER, Architecture, Build, TensorSpec
from inpaintrt.conditioning import cached_feature, step_outputs
from inpaintrt.errors import ParameterError, PlanBuildError
from inpaintrt.families import SD, step_specs
from inpaintrt_export.builds.profiles import make_profiles
from inpaintrt_export.builds.settings import BuildSettings

ARCHITECTURE = Architecture(
    latent_channels=4,
    vae_scale_factor=8,
    latent_scale=0.18215,
    context_width=768,
    prediction_type="epsilon",
    native_resolution=(512, 512),
    condition_channels=5,
)
STEP = Build(
    component="denoiser",
    precision="fp16",
    form="step",
    inputs=step_specs(SD, ARCHITECTURE, "float16"),
    outputs=step_outputs(4),
)


def _network(component: str, tensor: str, *shape: int | str) -> Build:
    spec = TensorSpec(dtype="float32", shape=shape)
    return Build(component=component, precision="fp16", inputs={tensor: spec}, outputs={"out": spec})


def test_a_step_has_a_profile_for_each_size_and_bucket_with_all_slots() -> None:
    settings = BuildSettings("tensorrt-rtx", resolutions=((512, 512), (768, 512)), max_batch=2)
    profiles = make_profiles(STEP, ARCHITECTURE, 77, settings)
    assert [(profile["timestep"], profile["noise"][2:]) for profile in profiles] == [
        ((rows,), size) for size in ((64, 64), (96, 64)) for rows in (1, 2, 4)
    ]
    assert profiles[1] == {
        "state": (2, 6, 4, 64, 64),
        "finite": (2,),
        "condition": (2, 5, 64, 64),
        "mask": (2, 1, 64, 64),
        "image_latents": (2, 4, 64, 64),
        "first_noise": (2, 4, 64, 64),
        "row_slot": (2,),
        "timestep": (2,),
        "context": (2, 77, 768),
        "guidance": (2, 2),
        "prompt_rows": (2, 2),
        "guidance_rescale": (2,),
        "update": (2, 7, 10),
        "threshold": (2,),
        "noise": (2, 4, 64, 64),
    }


@pytest.mark.parametrize("prompted", [True, False])
def test_a_shallow_step_has_the_profiles_of_a_step(prompted: bool) -> None:
    """That of XL sees no prompt, so that the length of prompts makes no difference."""
    inputs = {name: spec for name, spec in STEP.inputs.items() if prompted or name != "context"}
    inputs[CACHED_FEATURE] = cached_feature(320, "float16")
    shallow = msgspec.structs.replace(STEP, component=SHALLOW_DENOISER, inputs=inputs)
    settings = BuildSettings("tensorrt-rtx", max_batch=1, prompt_windows=2)
    profiles = make_profiles(shallow, ARCHITECTURE, 77, settings)
    expected = [(tokens, rows) for tokens in (77, 154) for rows in (1, 2)] if prompted else [(0, 1), (0, 2)]
    assert [(profile.get("context", (0, 0))[1], profile["timestep"][0]) for profile in profiles] == expected
    for profile, (_, rows) in zip(profiles, expected, strict=True):
        assert profile[CACHED_FEATURE] == (rows, 320, 64, 64)


def test_a_step_has_profiles_for_prompts_of_several_windows() -> None:
    settings = BuildSettings("tensorrt-rtx", max_batch=1, prompt_windows=3)
    profiles = make_profiles(STEP, ARCHITECTURE, 77, settings)
    assert [profile["context"] for profile in profiles] == [
        (rows, tokens, 768) for tokens in (77, 154, 231) for rows in (1, 2)
    ]


def test_a_plain_unet_has_a_profile_for_each_bucket() -> None:
    network = _network("denoiser", "sample", "batch", 9, "height", "width")
    settings = BuildSettings("tensorrt", max_batch=1)
    profiles = make_profiles(network, ARCHITECTURE, 77, settings)
    assert [profile["sample"] for profile in profiles] == [(1, 9, 64, 64), (2, 9, 64, 64)]


def test_the_others_work_on_one_at_a_time() -> None:
    settings = BuildSettings("tensorrt-rtx", resolutions=((512, 768),), prompt_windows=2)
    networks = [
        _network("text_encoder", "input_ids", "batch", "tokens"),
        _network("vae_encoder", "sample", "batch", 3, "height", "width"),
        _network("vae_decoder", "latent_sample", "batch", 4, "height", "width"),
    ]
    shapes = {
        network.component: [
            tuple(profile.values()) for profile in make_profiles(network, ARCHITECTURE, 77, settings)
        ]
        for network in networks
    }
    assert shapes == {
        "text_encoder": [((1, 77),)],
        "vae_encoder": [((1, 3, 512, 768),)],
        "vae_decoder": [((1, 4, 64, 96),)],
    }


@pytest.mark.parametrize("resolution", [(512, 500), (0, 512), (512, 8192)])
def test_a_size_that_no_plan_can_have_is_refused(resolution: tuple[int, int]) -> None:
    settings = BuildSettings("tensorrt-rtx", resolutions=(resolution,))
    with pytest.raises(ParameterError, match="multiples of 8, at most 4096"):
        make_profiles(STEP, ARCHITECTURE, 77, settings)


def test_an_axis_of_unknown_size_is_named() -> None:
    network = _network("vae_encoder", "sample", "batch", "depth")
    with pytest.raises(PlanBuildError, match=r"(?s)'vae_encoder'.*received: depth"):
        make_profiles(network, ARCHITECTURE, 77, BuildSettings("tensorrt-rtx"))
