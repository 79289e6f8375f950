"""The command line: files in, images out, errors without a traceback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

from bundles import make_tiny_bundle
from inpaintrt import InpaintPipeline
from inpaintrt.cli.request_options import click_option
from inpaintrt.declaration import Option
from inpaintrt.options import OPTIONS
from inpaintrt.presets import PRESETS
from runtime.image_tools import disc_mask, gradient, largest_difference

SIDE = 64


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an image and a mask."""
    gradient(SIDE, SIDE).save(tmp_path / "image.png")
    disc_mask(SIDE, SIDE).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).parent / "inpaintrt"
    return subprocess.run([command, *arguments], capture_output=True, text=True, check=False)


def _request(bundle: Path, *more: str) -> Sequence[str | Path]:
    return [
        *("run", "--bundle", bundle, "--image", "image.png", "--mask", "mask.png"),
        *("--prompt", "a red balloon", "--steps", "3", "--seed", "0", "--output", "out.png", *more),
    ]


def test_run_paints_what_the_pipeline_paints_and_says_how(workplace: Path, tiny_bundle: Path) -> None:
    result = _run(*_request(tiny_bundle, "--scheduler", "ddim"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "out.png"
    painted = Image.open("out.png")
    expected = InpaintPipeline.from_bundle(tiny_bundle)(
        "a red balloon", "image.png", "mask.png", num_inference_steps=3, seed=0, scheduler="ddim"
    )
    assert largest_difference(painted, expected.images[0]) == 0
    parameters = json.loads(painted.text["parameters"])  # type: ignore[attr-defined]
    assert parameters["prompt"] == "a red balloon"
    assert parameters["seed"] == 0
    assert parameters["num_inference_steps"] == 3
    assert parameters["scheduler"] == "ddim"


def test_a_preset_sets_what_is_not_given(workplace: Path, tiny_bundle: Path) -> None:
    result = _run(*_request(tiny_bundle, "--preset", "tcd", "--guidance", "1"))
    assert result.returncode == 0, result.stderr
    painted = Image.open("out.png")
    used: dict[str, Any] = {"scheduler": "tcd", "eta": 0.3, "num_inference_steps": 3, "guidance_scale": 1.0}
    with InpaintPipeline.from_bundle(tiny_bundle) as pipe:
        expected = pipe("a red balloon", "image.png", "mask.png", seed=0, **used)
    assert largest_difference(painted, expected.images[0]) == 0
    parameters = json.loads(painted.text["parameters"])  # type: ignore[attr-defined]
    assert {name: parameters[name] for name in ("preset", *used)} == {"preset": "tcd", **used}


def test_a_preset_for_another_checkpoint_is_refused(workplace: Path, tiny_bundle: Path) -> None:
    result = _run(*_request(tiny_bundle, "--preset", "lightning-4step", "--steps", "4"))
    assert result.returncode == 1
    assert "'lightning-4step' is not for this checkpoint" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_several_images_are_numbered(workplace: Path, tiny_bundle: Path) -> None:
    result = _run(*_request(tiny_bundle, "--count", "2", "--output", "some.jpg"))
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in workplace.glob("some*")) == ["some-1.jpg", "some-2.jpg"]


@pytest.mark.parametrize("seed", ["4,5", "4"])
def test_several_images_have_a_seed_each(workplace: Path, tiny_bundle: Path, seed: str) -> None:
    result = _run(*_request(tiny_bundle, "--count", "2", "--seed", seed))
    assert result.returncode == 0, result.stderr
    seeds = [json.loads(Image.open(f"out-{index}.png").text["parameters"])["seed"] for index in (1, 2)]  # type: ignore[attr-defined]
    assert seeds == [4, 5]


OF_SDXL: dict[str, Any] = {
    "prompt_2": "a blue house",
    "negative_prompt_2": "a boat",
    "original_size": [100, 200],
    "crops_coords_top_left": [3, 7],
    "target_size": [90, 80],
    "negative_original_size": [50, 60],
    "negative_crops_coords_top_left": [9, 11],
    "negative_target_size": [30, 20],
    "aesthetic_score": 5.0,
    "negative_aesthetic_score": 2.0,
    "denoising_start": 0.3,
    "denoising_end": 0.9,
}


def _flags(given: dict[str, Any]) -> list[str]:
    names = {"guidance_scale": "guidance", "num_images_per_prompt": "count"}
    arguments = []
    for name, value in given.items():
        if not isinstance(value, bool):
            values = value if isinstance(value, list) else [value]
            arguments += [f"--{names.get(name, name).replace('_', '-')}", *map(str, values)]
    return arguments


def test_options_of_sdxl_reach_it(workplace: Path, bundle_cache: Path) -> None:
    bundle = make_tiny_bundle(bundle_cache, name="tiny-sdxl")
    result = _run(*_request(bundle, "--negative-prompt", "a tree", *_flags(OF_SDXL)))
    assert result.returncode == 0, result.stderr
    parameters = json.loads(Image.open("out.png").text["parameters"])  # type: ignore[attr-defined]
    assert {name: parameters[name] for name in OF_SDXL} == OF_SDXL


def test_every_option_of_the_pipeline_reaches_it(workplace: Path, tiny_bundle: Path) -> None:
    given = {
        "negative_prompt": "a tree",
        "preset": "tcd",
        "timestep_spacing": "trailing",
        "guidance_scale": 3.0,
        "strength": 0.9,
        "num_images_per_prompt": 1,
        "eta": 0.5,
        "scheduler": "ddim",
        "padding_mask_crop": 4,
        "height": 64,
        "width": 72,
        "clip_skip": 1,
        "negative_mode": "symmetric",
        "guidance_interval": [0.1, 0.9],
        "long_prompts": "windows",
        "mask_blur": 1.5,
        "mask_grow": -1,
        "mask_invert": True,
        "match_colors": False,
        "fill": "gray",
        "margins": [0, 8, 0, 0],
        "mask_mode": "soft",
        "guidance_rescale": 0.3,
    }
    arrays = {name for name, option in OPTIONS.items() if option.is_array}
    elsewhere = {
        "output_type",
        "compat",
        "seed",
        "num_inference_steps",
        "timesteps",
        "sigmas",
        "vae",
        "quality",
        "cache_interval",
    }
    assert given.keys() == OPTIONS.keys() - arrays - elsewhere - OF_SDXL.keys()
    result = _run(*_request(tiny_bundle, "--mask-invert", "--keep-colors", *_flags(given)))
    assert result.returncode == 0, result.stderr
    parameters = json.loads(Image.open("out.png").text["parameters"])  # type: ignore[attr-defined]
    assert {name: parameters[name] for name in given} == given


def test_step_caching_is_refused_where_the_bundle_has_none(workplace: Path, tiny_bundle: Path) -> None:
    result = _run(*_request(tiny_bundle, "--cache-interval", "2"))
    assert result.returncode == 1
    assert "inpaintrt add-step-cache" in result.stderr


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [("timesteps", "999,500.5,20", [999, 500.5, 20]), ("sigmas", "7.5,0.5,0", [7.5, 0.5, 0])],
)
def test_a_schedule_is_a_list_with_commas(
    workplace: Path, tiny_bundle: Path, name: str, text: str, values: list[float]
) -> None:
    result = _run(*_request(tiny_bundle, f"--{name}", text, "--scheduler", "euler"))
    assert result.returncode == 0, result.stderr
    assert f"{3 - (name == 'sigmas')} steps" in result.stderr
    assert json.loads(Image.open("out.png").text["parameters"])[name] == values  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "words"), [("999;500", "neither a number nor several"), ("500,999", "none larger")]
)
def test_a_schedule_that_cannot_be_run_is_refused(
    workplace: Path, tiny_bundle: Path, text: str, words: str
) -> None:
    result = _run(*_request(tiny_bundle, "--timesteps", text, "--scheduler", "euler"))
    assert result.returncode != 0
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("flag", "expected"), [("--match-colours", True), ("--keep-colours", False)])
def test_a_former_name_works_with_a_note(
    workplace: Path, tiny_bundle: Path, flag: str, *, expected: bool
) -> None:
    result = _run(*_request(tiny_bundle, flag))
    assert result.returncode == 0, result.stderr
    assert "note: the option 'match_colours' is now named 'match_colors'" in result.stderr
    parameters = json.loads(Image.open("out.png").text["parameters"])  # type: ignore[attr-defined]
    assert parameters["match_colors"] is expected
    assert "match_colours" not in parameters
    assert "colours" not in _run("run", "--help").stdout


def test_the_help_of_run_gives_descriptions_ranges_and_defaults() -> None:
    text = " ".join(_run("run", "--help").stdout.split())
    for option in OPTIONS.values():
        if not option.is_array and option.name != "output_type":
            assert option.description in text, option.name
    assert "(an integer from 1 to 1000; default: 50)" in text
    assert "--fill [blur|gray|grey|noise|original]" in text


def test_an_option_that_is_a_list_is_numbers_with_commas() -> None:
    option = Option("timesteps", Sequence[int] | None, "Timesteps.", None)
    seen: list[object] = []

    @click.command()
    @click_option(option, "timesteps")
    def command(timesteps: object) -> None:
        seen.append(timesteps)

    command.main(["--timesteps", "9,4"], standalone_mode=False)
    command.main(["--timesteps", "9"], standalone_mode=False)
    assert seen == [[9, 4], [9]]
    with pytest.raises(click.BadParameter, match="'9;4' is neither a number nor several"):
        command.main(["--timesteps", "9;4"], standalone_mode=False)


def test_a_warning_reaches_the_user(workplace: Path, tiny_bundle: Path) -> None:
    result = _run(*_request(tiny_bundle, "--prompt", "a red balloon and " * 40))
    assert result.returncode == 0
    assert "cut off" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scheduler", "magic"], "euler_a"),
        (["--mask", "image_of_nothing.png"], "image_of_nothing.png"),
        (["--strength", "2"], "strength"),
        (["--output", "out.gif"], ".png"),
        (["--output", "nowhere/out.png"], "nowhere"),
        (["--bundle", "nothing"], "inpaintrt export"),
        (["--backend", "abacus"], "onnxruntime"),
        (["--device", "1"], "received: device"),
        (["--low-vram"], "received: low_vram"),
        (["--backend", "tensorrt-rtx", "--threads", "2"], "expected: device, low_vram"),
    ],
)
def test_an_error_is_told_without_a_traceback_and_writes_nothing(
    workplace: Path, tiny_bundle: Path, options: list[str], words: str
) -> None:
    before = sorted(workplace.iterdir())
    result = _run(*_request(tiny_bundle, *options))
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(workplace.iterdir()) == before


def test_an_existing_file_is_kept_unless_forced(workplace: Path, tiny_bundle: Path) -> None:
    (workplace / "out.png").write_text("precious")
    result = _run(*_request(tiny_bundle))
    assert result.returncode == 1
    assert "--force" in result.stderr
    assert (workplace / "out.png").read_text() == "precious"
    assert _run(*_request(tiny_bundle, "--force")).returncode == 0
    with Image.open("out.png") as painted:
        assert painted.size == (SIDE, SIDE)


def test_an_interrupt_ends_quietly_and_leaves_nothing(workplace: Path, tiny_bundle: Path) -> None:
    before = sorted(workplace.iterdir())
    command = Path(sys.executable).parent / "inpaintrt"
    process = subprocess.Popen(
        [command, *_request(tiny_bundle, "--steps", "1000")], stderr=subprocess.PIPE, text=True
    )
    while "denoising" not in (os.read(process.stderr.fileno(), 4096).decode() if process.stderr else ""):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert sorted(workplace.iterdir()) == before


def test_inspect_shows_and_checks_a_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    result = _run("inspect", tiny_bundle)
    assert result.returncode == 0, result.stderr
    for word in ("denoiser", "next_state", "epsilon", "compared with PyTorch", "what the export took"):
        assert word in result.stdout


def test_inspect_finds_a_changed_byte(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for path in tiny_bundle.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(tiny_bundle)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    network = next(copy.glob("vae_decoder/*.onnx"))
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    result = _run("inspect", copy)
    assert result.returncode == 1
    assert network.name in result.stderr
    assert "sha256" in result.stderr


def test_samplers_and_bundles_are_listed(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPAINTRT_ENGINES", str(tiny_bundle.parent))
    assert "dpmpp_2m_karras" in _run("samplers").stdout.split()
    assert tiny_bundle.name in _run("bundles").stdout.split()


def test_presets_are_listed_with_their_sources() -> None:
    listed = _run("presets").stdout
    for preset in PRESETS.values():
        assert f" {preset.name} " in listed
        assert all(source in listed for source in preset.sources)
    assert "--timesteps 999,749,499,249" in listed
    assert "--timestep-spacing trailing" in listed
    assert "--eta 0.3" in listed
    assert "4, no other" in listed


def test_version_and_help() -> None:
    assert _run("--version").stdout.startswith("inpaintrt ")
    for command in ("run", "demo", "inspect", "export", "bench"):
        assert command in _run("--help").stdout


def test_the_demo_paints_a_strip(workplace: Path) -> None:
    result = _run("demo")
    assert result.returncode == 0, result.stderr
    assert "denoise" in result.stderr
    assert result.stdout.strip().endswith("inpaintrt-demo.png")
    strip = Image.open("inpaintrt-demo.png")
    assert strip.width > 5 * strip.height
    assert np.asarray(strip).std() > 20
