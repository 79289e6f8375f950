"""Settings: flags go before the environment, and what is wrong is told with both names."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from inpaintrt.cli import app
from inpaintrt.errors import ParameterError
from inpaintrt_server.batching.service import BatchingSettings
from inpaintrt_server.options import setting_options
from inpaintrt_server.settings import RENAMED, ServerSettings, current_settings, read_settings


def test_what_is_given_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPAINTRT_PORT", "8001")
    monkeypatch.setenv("INPAINTRT_SLOTS", "3")
    settings = read_settings({"port": "8002"})
    assert (settings.port, settings.slots, settings.queue) == (8002, 3, 64)


def test_every_option_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {
        "host": ("::1", "::1"),
        "backend_options": ("threads=2, low_vram=true,name=a", {"threads": 2, "low_vram": True, "name": "a"}),
        "verify": ("false", False),
        "row_buckets": ("1,2,4", (1, 2, 4)),
        "api_key_file": (str(tmp_path), tmp_path),
        "insecure": ("1", True),
        "keep_alive": ("90", 90),
        "forwarded_allow_ips": ("10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
        "request_timeout": ("2.5", 2.5),
        "mode": ("one-at-a-time", "one-at-a-time"),
        "lora": (
            "style=a.safetensors:0.8, words=/b=c.safetensors,style=d:e.safetensors:-1",
            {
                "style": (("a.safetensors", 0.8), ("d:e.safetensors", -1.0)),
                "words": (("/b=c.safetensors", 1.0),),
            },
        ),
        "lora_memory": ("1000", 1000),
    }
    for name, (text, _) in values.items():
        monkeypatch.setenv(f"INPAINTRT_{name.upper()}", text)
    settings = read_settings()
    assert {name: getattr(settings, name) for name in values} == {
        name: value for name, (_, value) in values.items()
    }
    assert settings.batching.row_buckets == (1, 2, 4)
    assert settings.batching.mode == "one-at-a-time"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "65536"),
        ("port", "http"),
        ("slots", "0"),
        ("queue", "-1"),
        ("row_buckets", "1,many"),
        ("mode", "sometimes"),
        ("request_timeout", "0"),
        ("backend_options", "threads"),
        ("insecure", "perhaps"),
        ("max_body", "20M"),
        ("keep_alive", "0"),
        ("forwarded_allow_ips", "proxy.example.org"),
        ("forwarded_allow_ips", "*,10.0.0.1"),
        ("lora", "style"),
        ("lora", "style="),
        ("lora", "=a.safetensors"),
        ("lora", "a style=a.safetensors"),
        ("lora", "style=a.safetensors:inf"),
        ("lora_memory", "0"),
    ],
)
def test_a_wrong_value_is_told_with_its_names(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"INPAINTRT_{name.upper()}", text)
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(ParameterError) as caught:
        read_settings()
    assert name in caught.value.what
    assert flag in str(caught.value.hint)
    assert f"INPAINTRT_{name.upper()}" in str(caught.value.hint)
    monkeypatch.delenv(f"INPAINTRT_{name.upper()}")
    with pytest.raises(ParameterError, match=name):
        read_settings({name: text})


def test_loras_are_given_one_by_one_and_an_empty_variable_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("style=a.safetensors", "words=b,c.safetensors:0.5", "style=d.safetensors:2")
    assert read_settings({"lora": flags}).lora == {
        "style": (("a.safetensors", 1.0), ("d.safetensors", 2.0)),
        "words": (("b,c.safetensors", 0.5),),
    }
    assert list(read_settings({"lora": ("b=x", "a=y")}).lora) == ["b", "a"]
    monkeypatch.setenv("INPAINTRT_LORA", " ")
    assert read_settings().lora == {}
    with pytest.raises(ParameterError, match="lora"):
        read_settings({"lora": 7})


def test_a_batch_setting_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ParameterError, match="row_buckets"):
        assert read_settings({"row_buckets": "0"}).batching


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("slots", 0, "an integer from 1"),
        ("queue", -1, "an integer from 0"),
        ("workers", 1.5, "an integer from 1"),
        ("prompt_cache", True, "an integer from 0"),
        ("memory_budget", 0, "an integer from 1 or None"),
        ("lora_memory", 0, "an integer from 1 or None"),
        ("mode", "sometimes", "'continuous', 'one-at-a-time' or 'whole-batches'"),
        ("row_buckets", (), "a non-empty list with each item an integer from 1 or None"),
        ("row_buckets", (1, 0), "a non-empty list with each item an integer from 1 or None"),
    ],
)
def test_a_batch_setting_has_a_range(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ParameterError, match=name) as caught:
        BatchingSettings(**{name: value})
    assert caught.value.expected == expected


def test_every_setting_is_an_option_of_the_command() -> None:
    flags = {option.opts[0]: option for option in setting_options()}
    assert flags.keys() == {
        f"--{name.replace('_', '-')}" for name in (*ServerSettings.model_fields, *RENAMED)
    }
    assert {name for name, option in flags.items() if option.hidden} == {"--picture-cache"}
    shown = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    for name, field in ServerSettings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in shown.output
        assert field.description


def test_no_proxy_is_believed_unless_it_is_named() -> None:
    assert read_settings().forwarded_allow_ips == ()
    assert read_settings({"forwarded_allow_ips": "*"}).forwarded_allow_ips == ("*",)


FORMER, CURRENT = "INPAINTRT_PICTURE_CACHE", "INPAINTRT_IMAGE_CACHE"


def test_a_former_name_of_an_option_works_and_is_noted() -> None:
    given, (note,) = current_settings({"picture_cache": "7", "slots": "2"})
    assert given == {"image_cache": "7", "slots": "2"}
    assert "'picture_cache' is now named 'image_cache'" in note
    assert read_settings(given).image_cache == 7


@pytest.mark.parametrize("name", [FORMER, FORMER.lower()])
def test_a_former_name_of_a_variable_works_and_is_noted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "7")
    given, (note,) = current_settings({})
    assert f"'{FORMER}' is now named '{CURRENT}'" in note
    assert read_settings(given).batching.image_cache == 7


def test_options_go_before_a_former_name_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORMER, "7")
    given, notes = current_settings({"image_cache": "9"})
    assert read_settings(given).image_cache == 9
    assert len(notes) == 1


def test_names_of_today_are_not_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CURRENT, "7")
    given, notes = current_settings({})
    assert (read_settings(given).image_cache, notes) == (7, [])


def test_a_setting_under_both_of_its_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match="twice") as caught:
        current_settings({"picture_cache": "7", "image_cache": "7"})
    assert (caught.value.received, caught.value.expected) == ("picture_cache and image_cache", "image_cache")
    monkeypatch.setenv(FORMER, "7")
    monkeypatch.setenv(CURRENT, "7")
    with pytest.raises(ParameterError, match=f"{FORMER} and {CURRENT}"):
        current_settings({})
