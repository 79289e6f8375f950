"""Names of samplers, and what switching the class of a configuration means."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import diffusers
import numpy as np
import pytest

from inpaintrt.errors import SchedulerError
from inpaintrt.samplers import Table, compile_table, options_of, sampler_names
from inpaintrt.samplers.config import DEFAULTS
from inpaintrt.samplers.names import TAKES_TIMESTEP_SPACING
from runtime.samplers.reference import BETAS

STABLE_DIFFUSION: Mapping[str, object] = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    **BETAS,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


def assert_same(left: Table, right: Table) -> None:
    np.testing.assert_array_equal(left.timesteps, right.timesteps)
    np.testing.assert_array_equal(left.update, right.update)
    assert left.init == right.init


@pytest.mark.parametrize("name", sampler_names())
def test_every_name_compiles(name: str) -> None:
    table = compile_table(STABLE_DIFFUSION, name, 8)
    assert table.name == name
    assert table.rows == {"h": 15, "k": 15, "H": 15, "K": 15, "p": 9, "P": 9}.get(name[0], 8)


def test_names_are_sorted_and_complete() -> None:
    names = sampler_names()
    short = [name for name in names if name.islower()]
    assert short == sorted(short)
    assert {"ddim", "dpmpp_2m_karras", "euler_a", "unipc", "DPMSolverMultistepScheduler"} <= set(names)
    assert len(names) == len(set(names))


def test_no_name_means_the_class_of_the_configuration() -> None:
    table = compile_table(STABLE_DIFFUSION, None, 8)
    assert table.name == "PNDMScheduler"
    assert_same(table, compile_table(STABLE_DIFFUSION, "PNDMScheduler", 8))
    assert_same(table, compile_table(STABLE_DIFFUSION, "plms", 8))


@pytest.mark.parametrize(
    ("name", "class_name", "options"),
    [
        ("dpmpp_2m", "DPMSolverMultistepScheduler", {}),
        ("dpmpp_2m_karras", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        (
            "dpmpp_2m_sde_exponential",
            "DPMSolverMultistepScheduler",
            {"algorithm_type": "sde-dpmsolver++", "use_exponential_sigmas": True},
        ),
        ("dpmpp_3m_lu", "DPMSolverMultistepScheduler", {"solver_order": 3, "use_lu_lambdas": True}),
        ("dpmpp_sde", "DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("euler_beta", "EulerDiscreteScheduler", {"use_beta_sigmas": True}),
        ("deis", "DEISMultistepScheduler", {}),
    ],
)
def test_short_names(name: str, class_name: str, options: Mapping[str, object]) -> None:
    wanted = {**STABLE_DIFFUSION, **options}
    assert_same(compile_table(STABLE_DIFFUSION, name, 8), compile_table(wanted, class_name, 8))


def test_a_short_name_says_all_about_the_sigma_schedule() -> None:
    karras = {**BETAS, "_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}
    plain = {**BETAS, "_class_name": "EulerDiscreteScheduler"}
    assert_same(compile_table(karras, "euler", 8), compile_table(plain, None, 8))
    assert_same(compile_table(karras, "EulerDiscreteScheduler", 8), compile_table(plain, "euler_karras", 8))
    assert compile_table(karras, "euler_exponential", 8).rows == 8


def test_a_short_name_leaves_latents_unclipped_unless_told() -> None:
    euler = {**BETAS, "_class_name": "EulerDiscreteScheduler"}
    assert compile_table(euler, "ddim", 5).rows == 5
    for config, name in (
        ({**euler, "clip_sample": True}, "ddim"),
        (euler, "DDIMScheduler"),
        ({**BETAS, "_class_name": "DDIMScheduler"}, "ddim"),
    ):
        with pytest.raises(SchedulerError, match="clip_sample = True"):
            compile_table(config, name, 5)


CONFIGURATIONS: tuple[Mapping[str, object], ...] = (
    STABLE_DIFFUSION,
    {
        "_class_name": "DPMSolverMultistepScheduler",
        **BETAS,
        "solver_type": "heun",
        "steps_offset": 1,
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
    },
    {
        "_class_name": "UniPCMultistepScheduler",
        **BETAS,
        "solver_type": "bh1",
        "solver_order": 3,
        "final_sigmas_type": "sigma_min",
    },
    {
        "_class_name": "EulerDiscreteScheduler",
        **BETAS,
        "interpolation_type": "linear",
        "timestep_type": "discrete",
        "use_karras_sigmas": True,
    },
    {"_class_name": "LCMScheduler", "original_inference_steps": 30, "_use_default_values": ["beta_schedule"]},
)


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda config: config["_class_name"])
@pytest.mark.parametrize("class_name", [name for name in sampler_names() if not name.islower()])
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")
def test_switching_the_class_is_from_config(config: Mapping[str, object], class_name: str) -> None:
    said = {"clip_sample": False, "skip_prk_steps": True, **config}
    scheduler = getattr(diffusers, class_name).from_config(dict(said))
    scheduler.set_timesteps(10)
    table = compile_table(said, class_name, 10)
    np.testing.assert_allclose(table.timesteps, scheduler.timesteps.numpy(), atol=0.02)


def test_keys_of_other_schedulers_have_no_effect() -> None:
    euler = {**BETAS, "_class_name": "EulerDiscreteScheduler"}
    others = {"thresholding": True, "skip_prk_steps": False, "solver_order": 9, "set_alpha_to_one": False}
    assert_same(compile_table(euler | others, None, 5), compile_table(euler, None, 5))


def test_pndm_without_skip_prk_steps_means_plms() -> None:
    silent = {key: value for key, value in STABLE_DIFFUSION.items() if key != "skip_prk_steps"}
    assert_same(compile_table(silent, None, 8), compile_table(STABLE_DIFFUSION, None, 8))


def test_values_that_diffusers_marks_as_defaults_give_way() -> None:
    marked = {**STABLE_DIFFUSION, "beta_end": 0.5, "_use_default_values": ["beta_end"]}
    silent = {key: value for key, value in STABLE_DIFFUSION.items() if key != "beta_end"}
    assert_same(compile_table(marked, "euler", 8), compile_table(silent, "euler", 8))


def test_timestep_spacing_is_for_the_schedulers_that_read_it_in_diffusers() -> None:
    sources = {name: inspect.getsource(getattr(diffusers, name).set_timesteps) for name in DEFAULTS}
    reading = {name for name, source in sources.items() if "config.timestep_spacing" in source}
    assert reading == TAKES_TIMESTEP_SPACING


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("euler", {"timestep_spacing", "timesteps", "sigmas"}),
        ("euler_karras", {"timestep_spacing", "sigmas"}),
        ("DDIMScheduler", {"eta", "timestep_spacing"}),
        ("tcd", {"eta", "timesteps"}),
        ("dpmpp_2s", {"timesteps"}),
        ("lcm:3+euler:2", {"timestep_spacing"}),
        ("lcm:3+tcd:2", {"eta"}),
    ],
)
def test_what_samplers_take(name: str, taken: set[str]) -> None:
    assert options_of(name) == taken


def test_a_hybrid_of_unknown_samplers_takes_nothing() -> None:
    with pytest.raises(SchedulerError, match="unknown sampler"):
        options_of("euler:3+dimm:2")


def test_timestep_spacing_in_a_hybrid_is_for_the_members_that_have_a_choice() -> None:
    trailing = {**STABLE_DIFFUSION, "timestep_spacing": "trailing"}
    spaced = compile_table(STABLE_DIFFUSION, "lcm:4+ddim:4", 8, timestep_spacing="trailing")
    assert_same(spaced, compile_table(trailing, "lcm:4+ddim:4", 8))
