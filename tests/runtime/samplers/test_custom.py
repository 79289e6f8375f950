"""Timesteps and sigmas that a caller gives have the effect that they have in diffusers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import diffusers
import numpy as np
import pytest
import torch

from inpaintrt.errors import ParameterError
from inpaintrt.samplers import compile_table
from inpaintrt.samplers.config import DEFAULTS
from inpaintrt.samplers.custom import TAKES_SIGMAS, TAKES_TIMESTEPS
from runtime.samplers.configurations import (
    EPSILON,
    FAMILIES,
    SPACINGS,
    VELOCITY,
    Options,
    configuration,
    label,
)
from runtime.samplers.reference import diffusers_scheduler, relative_error, run_diffusers, run_table

# diffusers hands torch tensors to NumPy, which NumPy 2 wants announced.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning:diffusers.schedulers",
    "ignore:__array_wrap__ must accept context and return_scalar:DeprecationWarning",
)

ALIGN_YOUR_STEPS = (999, 850, 736, 645, 545, 455, 343, 233, 124, 24)
SIGMAS = (12.5, 7.0, 3.1, 1.5, 0.6, 0.2, 0.03, 0.0)
MASK = np.random.default_rng(11).integers(0, 2, (1, 4, 3, 2)).astype(np.float64)


def check(config: Mapping[str, object], given: Mapping[str, Sequence[float]], strength: float = 1.0) -> None:
    """Compare timesteps, latents and denoised estimates, with a mask, so that the anchors count."""
    expected = run_diffusers(
        diffusers_scheduler(config),
        None,
        strength=strength,
        given={key: list(values) for key, values in given.items()},
        mask=MASK,
    )
    is_float32 = config["_class_name"] == "DPMSolverMultistepScheduler"
    table = compile_table(
        config,
        None,
        50,
        strength=strength,
        timesteps=given.get("timesteps"),
        sigmas=given.get("sigmas"),
    )
    received = run_table(table, mask=MASK, noise_dtype=torch.float32 if is_float32 else torch.float64)
    np.testing.assert_allclose(received.timesteps, expected.timesteps, rtol=0.0, atol=1e-3)
    assert relative_error(received.latent, expected.latent) < 1e-4
    for ours, theirs in zip(received.estimates, expected.estimates, strict=bool(expected.estimates)):
        assert relative_error(ours, theirs) < 1e-4


def test_the_schedulers_that_take_them_are_those_of_diffusers() -> None:
    accepted = {
        name: inspect.signature(getattr(diffusers, name).set_timesteps).parameters for name in DEFAULTS
    }
    assert {name for name, parameters in accepted.items() if "timesteps" in parameters} == TAKES_TIMESTEPS
    sigmas = {name for name, parameters in accepted.items() if "sigmas" in parameters}
    assert sigmas - {"UniPCMultistepScheduler"} == TAKES_SIGMAS
    unipc = diffusers_scheduler(configuration("UniPCMultistepScheduler"))
    with pytest.raises(ValueError, match="use_flow_sigmas"):
        unipc.set_timesteps(sigmas=[1.0, 0.5])


@pytest.mark.parametrize("class_name", sorted(TAKES_TIMESTEPS))
@pytest.mark.parametrize("strength", [1.0, 0.75])
@pytest.mark.parametrize("prediction", [EPSILON, VELOCITY], ids=label)
@pytest.mark.parametrize("timesteps", [ALIGN_YOUR_STEPS, (999, 700, 300, 100), (640,)], ids=len)
def test_timesteps(class_name: str, strength: float, prediction: Options, timesteps: tuple[int, ...]) -> None:
    config = configuration(class_name, FAMILIES[class_name][1][0], prediction)
    if strength == 1.0 or len(timesteps) > 1:
        check(config, {"timesteps": timesteps}, strength)


@pytest.mark.parametrize("class_name", ["EulerDiscreteScheduler", "HeunDiscreteScheduler"])
def test_fractions_and_repeated_timesteps(class_name: str) -> None:
    check(configuration(class_name), {"timesteps": (980.5, 600.25, 600.25, 80.0, 0.0)})


@pytest.mark.parametrize("algorithm_type", ["dpmsolver++", "sde-dpmsolver++"])
@pytest.mark.parametrize("class_name", ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"])
def test_third_order(class_name: str, algorithm_type: str) -> None:
    solver: Options = {"algorithm_type": algorithm_type, "solver_order": 3}
    check(configuration(class_name, solver), {"timesteps": ALIGN_YOUR_STEPS})


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("spacing", SPACINGS, ids=label)
@pytest.mark.parametrize("last", [0.0, 0.01])
@pytest.mark.parametrize("prediction", [EPSILON, VELOCITY], ids=label)
def test_sigmas(strength: float, spacing: Options, last: float, prediction: Options) -> None:
    config = configuration("EulerDiscreteScheduler", spacing, prediction)
    check(config, {"sigmas": (*SIGMAS[:-1], last)}, strength)


def test_sigmas_go_before_a_sigma_schedule() -> None:
    check(configuration("EulerDiscreteScheduler", {"use_karras_sigmas": True}), {"sigmas": SIGMAS})


def test_arrays_are_taken() -> None:
    config = configuration("EulerDiscreteScheduler")
    table = compile_table(config, None, 3, timesteps=np.array(ALIGN_YOUR_STEPS))
    assert table.timesteps.tolist() == list(ALIGN_YOUR_STEPS)
    assert compile_table(config, None, 3, sigmas=np.array(SIGMAS, np.float32)).rows == len(SIGMAS) - 1


def test_strength_counts_rows_of_heun() -> None:
    """diffusers takes the 7 rows of 4 timesteps for steps."""
    config = configuration("HeunDiscreteScheduler")
    assert compile_table(config, None, 4, strength=0.75, timesteps=(999, 700, 300, 100)).rows == 3
    assert compile_table(config, None, 4, strength=0.75).rows == 5
    with pytest.raises(ParameterError, match="no step to run") as caught:
        compile_table(config, None, 4, strength=0.5, timesteps=(999, 700, 300, 100))
    assert caught.value.expected == "strength at least 0.5714 with that many steps"
    assert compile_table(config, None, 4, strength=0.572, timesteps=(999, 700, 300, 100)).rows == 1


def refused(class_name: str, parameter: str, **given: object) -> ParameterError:
    options: Options = {"clip_sample": False}
    with pytest.raises(ParameterError) as caught:
        compile_table(configuration(class_name, options), None, 5, **given)  # type: ignore[arg-type]
    assert caught.value.parameter == parameter
    return caught.value


def test_both_at_once() -> None:
    error = refused("EulerDiscreteScheduler", "sigmas", timesteps=[999], sigmas=[1.0, 0.0])
    assert "both given" in str(error)


@pytest.mark.parametrize("class_name", sorted(DEFAULTS.keys() - TAKES_TIMESTEPS))
def test_a_sampler_without_timesteps(class_name: str) -> None:
    error = refused(class_name, "timesteps", timesteps=[999, 500])
    assert f"{class_name} takes no timesteps" in str(error)
    assert "EulerDiscreteScheduler" in str(error.expected)


@pytest.mark.parametrize("class_name", sorted(DEFAULTS.keys() - TAKES_SIGMAS))
def test_a_sampler_without_sigmas(class_name: str) -> None:
    error = refused(class_name, "sigmas", sigmas=[1.0, 0.0])
    assert f"{class_name} takes no sigmas" in str(error)


@pytest.mark.parametrize("name", ["euler:3+ddpm:2", "euler:2"])
def test_a_hybrid(name: str) -> None:
    config = configuration("EulerDiscreteScheduler")
    with pytest.raises(ParameterError, match="hybrid of samplers takes no timesteps"):
        compile_table(config, name, 5, timesteps=[999, 500])
    with pytest.raises(ParameterError, match="hybrid of samplers takes no sigmas"):
        compile_table(config, name, 5, sigmas=[1.0, 0.0])


@pytest.mark.parametrize("key", ["use_karras_sigmas", "use_lu_lambdas"])
def test_timesteps_with_a_sigma_schedule(key: str) -> None:
    config = configuration("DPMSolverMultistepScheduler", {key: True})
    with pytest.raises(ParameterError, match="asks for a sigma schedule") as caught:
        compile_table(config, None, 5, timesteps=[999, 500])
    assert key in str(caught.value.received)


@pytest.mark.parametrize(
    ("timesteps", "expected"),
    [
        ([], "1 or more finite numbers"),
        (999, "1 or more finite numbers"),
        ("999", "1 or more finite numbers"),
        ([999, None], "1 or more finite numbers"),
        ([True, False], "1 or more finite numbers"),
        ([float("nan")], "1 or more finite numbers"),
        ([1000, 5], "from 0 to 999"),
        ([999, -1], "from 0 to 999"),
        ([500, 600], "none larger than the one before"),
    ],
)
def test_timesteps_that_are_none(timesteps: object, expected: str) -> None:
    error = refused("EulerDiscreteScheduler", "timesteps", timesteps=timesteps)
    assert expected in str(error.expected)


@pytest.mark.parametrize(
    "class_name", sorted(TAKES_TIMESTEPS - {"EulerDiscreteScheduler", "HeunDiscreteScheduler"})
)
def test_fractions_where_integers_are_needed(class_name: str) -> None:
    error = refused(class_name, "timesteps", timesteps=[999.5 - 1, 10])
    assert "integers" in str(error.expected)


@pytest.mark.parametrize("class_name", ["DDPMScheduler", "LCMScheduler", "TCDScheduler"])
def test_repeated_timesteps_where_each_must_be_smaller(class_name: str) -> None:
    error = refused(class_name, "timesteps", timesteps=[999, 500, 500])
    assert "each smaller" in str(error.expected)


def test_repeated_timesteps_of_a_multistep_solver() -> None:
    """diffusers' latents are not numbers."""
    with pytest.raises(ParameterError, match="no finite step"):
        compile_table(configuration("DPMSolverMultistepScheduler"), None, 5, timesteps=[999, 500, 500, 3])


@pytest.mark.parametrize(
    ("sigmas", "expected"),
    [
        ([1.0], "2 or more finite numbers"),
        ([float("inf"), 0.0], "2 or more finite numbers"),
        ([1.0, 0.0, 0.0], "only the last may be 0"),
        ([1.0, -1.0], "only the last may be 0"),
        ([1.0, 2.0, 0.0], "none larger"),
        ([1e39, 1.0, 0.0], "float32"),
    ],
)
def test_sigmas_that_are_none(sigmas: Sequence[float], expected: str) -> None:
    error = refused("EulerDiscreteScheduler", "sigmas", sigmas=sigmas)
    assert expected in str(error.expected)
