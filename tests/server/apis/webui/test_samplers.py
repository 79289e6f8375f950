import pytest

from inpaintrt.bundle import load_manifest
from inpaintrt.samplers import compile_table
from inpaintrt.store import find_bundle
from inpaintrt_server.apis.webui.samplers import SAMPLERS, SCHEDULES, choose_sampler
from inpaintrt_server.http.refusals import FieldError


@pytest.mark.parametrize(
    ("name", "schedule", "ours"),
    [
        ("Euler a", "Automatic", "euler_a"),
        ("euler A", "automatic", "euler_a"),
        ("k_euler_ancestral", "automatic", "euler_a"),
        ("Euler", "Karras", "euler_karras"),
        ("DPM++ 2M", "Karras", "dpmpp_2m_karras"),
        ("DPM++ 2M", "automatic", "dpmpp_2m_karras"),
        ("DPM++ 2M", "", "dpmpp_2m_karras"),
        ("DPM++ 2M", "Uniform", "dpmpp_2m"),
        ("DPM++ 2M Karras", "automatic", "dpmpp_2m_karras"),
        ("DPM++ 2M SDE Exponential", "Automatic", "dpmpp_2m_sde_exponential"),
        ("DPM++ 2M Karras", "exponential", "dpmpp_2m_exponential"),
        ("DPM++ 3M SDE", "automatic", "dpmpp_3m_sde_exponential"),
        ("DDIM", "automatic", "ddim"),
        ("UniPC", "beta", "unipc_beta"),
        ("LCM", "automatic", "lcm"),
        ("dpmpp_2m", "automatic", "dpmpp_2m"),
        ("EulerDiscreteScheduler", "automatic", "EulerDiscreteScheduler"),
        ("ddim:6+ddpm:4", "automatic", "ddim:6+ddpm:4"),
    ],
)
def test_names_of_the_webui_stand_for_ours(name: str, schedule: str, ours: str) -> None:
    assert choose_sampler(name, schedule)[0] == ours


def test_every_combination_that_is_listed_can_be_compiled() -> None:
    scheduler = load_manifest(find_bundle("demo")).scheduler
    pairs = [
        (sampler.name, schedule.label)
        for sampler in SAMPLERS
        for schedule in SCHEDULES
        if schedule.ramp is None or schedule.ramp in sampler.ramps
    ]
    for name, label in pairs:
        assert compile_table(scheduler, choose_sampler(name, label)[0], 10).rows >= 10


@pytest.mark.parametrize("name", ["DPM adaptive", "Karras", "", "DPM++ 2S a", "Euler Sideways"])
def test_an_unknown_sampler_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(FieldError) as caught:
        choose_sampler(name, "automatic")
    assert caught.value.field == "sampler_name"
    assert "DPM++ 2M SDE" in str(caught.value.expected)


@pytest.mark.parametrize(
    ("name", "schedule", "expected"),
    [
        ("Euler", "SGM Uniform", "Automatic, Uniform, Karras, Exponential, Beta"),
        ("Euler a", "Karras", "Automatic, Uniform"),
        ("ddim:6+ddpm:4", "Karras", "Automatic, Uniform"),
    ],
)
def test_a_schedule_that_is_not_there_is_refused(name: str, schedule: str, expected: str) -> None:
    with pytest.raises(FieldError) as caught:
        choose_sampler(name, schedule)
    assert caught.value.field == "scheduler"
    assert caught.value.expected == expected
