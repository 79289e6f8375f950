"""What a table cannot express is refused by name; numbers out of range likewise."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from inpaintrt.errors import ParameterError, SchedulerError
from inpaintrt.samplers import compile_table
from runtime.samplers.reference import BETAS

DDIM = "DDIMScheduler"
EULER = "EulerDiscreteScheduler"
MULTISTEP = "DPMSolverMultistepScheduler"
SINGLESTEP = "DPMSolverSinglestepScheduler"
UNIPC = "UniPCMultistepScheduler"


def configuration(class_name: str, **options: object) -> Mapping[str, object]:
    return {"_class_name": class_name, **BETAS, "clip_sample": False, **options}


@pytest.mark.parametrize(
    ("class_name", "key", "value"),
    [
        (DDIM, "clip_sample", True),
        (DDIM, "thresholding", True),
        (DDIM, "num_train_timesteps", 1000.0),
        (DDIM, "num_train_timesteps", True),
        (DDIM, "num_train_timesteps", 1),
        (DDIM, "beta_start", 0.0),
        (DDIM, "beta_end", "0.012"),
        (DDIM, "beta_end", math.nan),
        (DDIM, "beta_schedule", "sigmoid"),
        (DDIM, "trained_betas", [0.1, 2.0]),
        (DDIM, "trained_betas", 0.1),
        (DDIM, "prediction_type", "flow_prediction"),
        (DDIM, "timestep_spacing", "karras"),
        (DDIM, "steps_offset", -1),
        (DDIM, "set_alpha_to_one", 1),
        (DDIM, "rescale_betas_zero_snr", None),
        ("DDPMScheduler", "variance_type", "learned_range"),
        ("DDPMScheduler", "variance_type", "fixed_large_log"),
        ("PNDMScheduler", "skip_prk_steps", False),
        ("PNDMScheduler", "prediction_type", "sample"),
        ("EulerAncestralDiscreteScheduler", "prediction_type", "sample"),
        ("KDPM2DiscreteScheduler", "prediction_type", "sample"),
        ("KDPM2AncestralDiscreteScheduler", "prediction_type", "sample"),
        ("HeunDiscreteScheduler", "clip_sample", True),
        (EULER, "interpolation_type", "log_linear"),
        (EULER, "timestep_type", "continuous"),
        (EULER, "final_sigmas_type", "two"),
        (EULER, "sigma_min", 0.0),
        (EULER, "sigma_max", math.inf),
        (EULER, "use_karras_sigmas", "yes"),
        (MULTISTEP, "use_flow_sigmas", True),
        (MULTISTEP, "use_dynamic_shifting", True),
        (MULTISTEP, "solver_order", 4),
        (MULTISTEP, "solver_order", 2.0),
        (MULTISTEP, "algorithm_type", "rk4"),
        (MULTISTEP, "solver_type", "simpson"),
        (MULTISTEP, "variance_type", "learned"),
        (MULTISTEP, "lambda_min_clipped", math.inf),
        (MULTISTEP, "lower_order_final", 0),
        (SINGLESTEP, "algorithm_type", "sde-dpmsolver"),
        ("DEISMultistepScheduler", "algorithm_type", "sde-dpmsolver++"),
        (UNIPC, "solver_p", "DDIMScheduler"),
        (UNIPC, "shift_terminal", 0.1),
        (UNIPC, "disable_corrector", 0),
        (UNIPC, "disable_corrector", [0.5]),
        ("LCMScheduler", "original_inference_steps", 0),
        ("LCMScheduler", "timestep_scaling", -1.0),
    ],
)
def test_a_value_that_no_table_expresses(class_name: str, key: str, value: object) -> None:
    with pytest.raises(SchedulerError, match=f"{class_name} with {key} = ") as caught:
        compile_table(configuration(class_name, **{key: value}), None, 5)
    assert str(caught.value.received).startswith(f"{key} = ")
    assert str(caught.value.expected).startswith(f"{key} = ")


def test_a_key_that_no_scheduler_knows() -> None:
    with pytest.raises(SchedulerError, match="'sigma_data', which no supported scheduler knows"):
        compile_table(configuration(EULER, sigma_data=0.5), None, 5)


def test_two_sigma_schedules() -> None:
    config = configuration(EULER, use_karras_sigmas=True, use_beta_sigmas=True)
    with pytest.raises(SchedulerError, match="one sigma schedule"):
        compile_table(config, None, 5)


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(SchedulerError, match="trained_betas") as caught:
        compile_table(configuration(DDIM, trained_betas=[2.0] * 1000), None, 5)
    assert len(str(caught.value)) < 500


def test_trained_betas_of_another_length() -> None:
    with pytest.raises(SchedulerError, match="one number per training timestep"):
        compile_table(configuration(DDIM, trained_betas=[0.01, 0.02]), None, 5)


@pytest.mark.parametrize("class_name", [MULTISTEP, SINGLESTEP])
def test_dpmsolver_cannot_step_to_a_clean_image(class_name: str) -> None:
    with pytest.raises(SchedulerError, match="cannot step to a clean image"):
        compile_table(configuration(class_name, algorithm_type="dpmsolver"), None, 5)


def test_third_order_of_the_stochastic_dpmsolver() -> None:
    config = configuration(
        MULTISTEP, algorithm_type="sde-dpmsolver", solver_order=3, final_sigmas_type="sigma_min"
    )
    with pytest.raises(SchedulerError, match="no third order"):
        compile_table(config, None, 5)


@pytest.mark.parametrize("class_name", [DDIM, "DDPMScheduler"])
def test_noise_prediction_from_pure_noise(class_name: str) -> None:
    """diffusers divides by zero."""
    config = configuration(class_name, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    with pytest.raises(SchedulerError, match="predicts noise"):
        compile_table(config, None, 5)
    assert compile_table(config, None, 5, strength=0.6).rows == 3


@pytest.mark.parametrize("class_name", ["LCMScheduler", "TCDScheduler", SINGLESTEP])
def test_timestep_spacing_of_samplers_that_have_no_choice(class_name: str) -> None:
    with pytest.raises(ParameterError, match="timestep_spacing has no meaning") as caught:
        compile_table(configuration(class_name), None, 5, timestep_spacing="trailing")
    assert caught.value.parameter == "timestep_spacing"
    assert caught.value.received == f"timestep_spacing = 'trailing' with {class_name}"


def test_timestep_spacing_that_there_is_not() -> None:
    with pytest.raises(SchedulerError, match="timestep_spacing = 'karras'"):
        compile_table(configuration(EULER), None, 5, timestep_spacing="karras")


@pytest.mark.parametrize("name", ["dimm", "", "ddim ", "Euler", "EDMEulerScheduler"])
def test_an_unknown_name(name: str) -> None:
    with pytest.raises(SchedulerError, match="dpmpp_2m_karras") as caught:
        compile_table(configuration(DDIM), name, 5)
    assert caught.value.received == name


@pytest.mark.parametrize(
    "config", [{}, {"_class_name": "EDMEulerScheduler"}, {"_class_name": ["DDIMScheduler"]}]
)
def test_a_configuration_without_a_supported_class(config: Mapping[str, object]) -> None:
    with pytest.raises(SchedulerError, match="names no supported scheduler"):
        compile_table(config, None, 5)


@pytest.mark.parametrize(
    "name", ["ddim:3+", "ddim:3+ddpm", "ddim:0+ddpm:5", "ddim:-1+ddpm:6", "ddim:3+ddpm:2.0", ":5"]
)
def test_a_hybrid_that_is_not_one(name: str) -> None:
    with pytest.raises(SchedulerError, match="NAME:STEPS"):
        compile_table(configuration(DDIM), name, 5)


def test_a_hybrid_of_an_unknown_sampler() -> None:
    with pytest.raises(SchedulerError, match="unknown sampler"):
        compile_table(configuration(DDIM), "ddim:3+dimm:2", 5)


def test_a_hybrid_that_does_not_add_up() -> None:
    with pytest.raises(ParameterError, match="do not add up") as caught:
        compile_table(configuration(DDIM), "ddim:30+ddpm:20", 40)
    assert caught.value.expected == "steps = 50"


def test_a_hybrid_whose_noise_would_rise() -> None:
    with pytest.raises(SchedulerError, match="cannot hand over"):
        compile_table(configuration(DDIM), "euler_karras:8+euler:2", 10)


@pytest.mark.parametrize("steps", [0, -1, 1001, True, 5.0, "5", None])
def test_steps_out_of_range(steps: int) -> None:
    with pytest.raises(ParameterError, match="steps is out of range"):
        compile_table(configuration(DDIM), None, steps)


def test_a_schedule_shorter_than_strength_leaves() -> None:
    """diffusers would run no step at all and decode the noisy latents."""
    clipped = configuration(
        MULTISTEP, lambda_min_clipped=0.0, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing"
    )
    assert compile_table(clipped, None, 20).rows == 10
    with pytest.raises(ParameterError, match="no step at which to begin"):
        compile_table(clipped, None, 20, strength=0.1)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, "0.5", None])
def test_strength_and_eta_out_of_range(value: float) -> None:
    with pytest.raises(ParameterError, match="strength is out of range"):
        compile_table(configuration(DDIM), None, 5, strength=value)
    with pytest.raises(ParameterError, match="eta is out of range"):
        compile_table(configuration(DDIM), None, 5, eta=value)


@pytest.mark.parametrize(("strength", "steps"), [(0.0, 5), (0.1, 5), (0.019, 50)])
def test_nothing_left_to_run(strength: float, steps: int) -> None:
    with pytest.raises(ParameterError, match="no step to run"):
        compile_table(configuration(DDIM), None, steps, strength=strength)


def test_eta_where_it_has_no_meaning() -> None:
    with pytest.raises(ParameterError, match="eta has no meaning"):
        compile_table(configuration(EULER), None, 5, eta=0.5)
    assert compile_table(configuration(DDIM), "euler:3+ddim:2", 5, eta=0.5).uses_noise.any()


def test_a_timestep_beyond_training() -> None:
    """diffusers' index is out of range."""
    config = configuration(DDIM, steps_offset=1)
    with pytest.raises(ParameterError, match="training does not have") as caught:
        compile_table(config, None, 1000)
    assert caught.value.received == 1000


@pytest.mark.parametrize("class_name", ["LCMScheduler", "TCDScheduler"])
def test_more_steps_than_the_distillation_had(class_name: str) -> None:
    with pytest.raises(ParameterError, match="no more steps than its distillation"):
        compile_table(configuration(class_name), None, 51)


@pytest.mark.parametrize("class_name", ["LCMScheduler", "TCDScheduler"])
def test_a_distillation_finer_than_training(class_name: str) -> None:
    config = configuration(class_name, original_inference_steps=20, num_train_timesteps=10)
    with pytest.raises(SchedulerError, match="original_inference_steps"):
        compile_table(config, None, 5)


@pytest.mark.parametrize(
    ("class_name", "options", "steps"),
    [
        (MULTISTEP, {"timestep_spacing": "leading"}, 1000),
        (UNIPC, {"predict_x0": False}, 5),
        (UNIPC, {"lower_order_final": False}, 5),
        (MULTISTEP, {"final_sigmas_type": "sigma_min", "use_karras_sigmas": True, "solver_order": 3}, 20),
    ],
)
def test_a_schedule_on_which_a_sampler_has_no_finite_step(
    class_name: str, options: Mapping[str, object], steps: int
) -> None:
    """diffusers' latents are not numbers."""
    with pytest.raises(ParameterError, match="no finite step"):
        compile_table(configuration(class_name, **options), None, steps)
