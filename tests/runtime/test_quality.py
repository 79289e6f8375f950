"""Quality by one word: what it sets, what goes before it, and whose settings hold."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from inpaintrt import InpaintPipeline
from inpaintrt.bundle import (
    JudgedQuality,
    Manifest,
    MeasuredQuality,
    QualitySettings,
    load_manifest,
    save_manifest,
)
from inpaintrt.cli import app
from inpaintrt.errors import BundleFormatError, ParameterError, SchedulerError
from inpaintrt.options import OPTIONS, Options, make_options
from inpaintrt.quality import DOCUMENTED, Qualities, qualities_of
from inpaintrt.samplers import compile_table
from inpaintrt.store import find_bundle
from runtime.image_tools import disc_mask, gradient
from runtime.samplers.configurations import EPSILON, SAMPLE, VELOCITY, configuration, options_of_every_class

SIDE = 64
TASK: dict[str, Any] = {
    "prompt": "a red balloon",
    "image": gradient(SIDE, SIDE),
    "mask_image": disc_mask(SIDE, SIDE),
    "seed": 3,
}
CHOSEN = QualitySettings(num_inference_steps=3, scheduler="ddim", guidance_interval=(0.0, 0.5))
MEASURED = MeasuredQuality(
    settings=CHOSEN,
    exact_steps=20,
    time_ratio=0.25,
    psnr=27.5,
    backend="onnxruntime",
    date="2026-11-27",
    versions={"inpaintrt": "0.2.0"},
    judged=JudgedQuality(judge="demo", cases=200, found=0.9, exact_found=0.92, seam=1.3),
)


def resolved(qualities: Qualities = DOCUMENTED, **given: Any) -> Options:
    options = make_options(qualities, **given)
    assert make_options(qualities, **options) == options, "options that are checked twice change"
    return options


def differences(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value != OPTIONS[name].default}


def test_exact_changes_nothing_and_is_what_nothing_means() -> None:
    assert resolved(quality="exact") == resolved()


@pytest.mark.parametrize("word", DOCUMENTED)
def test_a_word_fills_in_what_is_not_given(word: str) -> None:
    expected = differences({**resolved(), **DOCUMENTED[word].options})
    assert differences(resolved(quality=word)) == {"quality": word, **expected}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"num_inference_steps": 50}, {"num_inference_steps": 50, "scheduler": "unipc"}),
        ({"guidance_interval": (0.0, 1.0)}, {"guidance_interval": (0.0, 1.0), "num_inference_steps": 10}),
        ({"timestep_spacing": "leading"}, {"timestep_spacing": "leading", "scheduler": "unipc"}),
        ({"scheduler": "ddim"}, {"scheduler": "ddim", "timestep_spacing": "trailing"}),
        ({"scheduler": "lcm"}, {"scheduler": "lcm", "timestep_spacing": None, "num_inference_steps": 10}),
        ({"scheduler": None, "preset": None}, {"scheduler": "unipc"}),
        (
            {"timesteps": (900, 400)},
            {"timesteps": [900, 400], "scheduler": None, "timestep_spacing": None}
            | {"num_inference_steps": 50, "guidance_interval": (0.0, 0.6)},
        ),
        ({"sigmas": (9.0, 1.0, 0.0), "scheduler": "euler"}, {"scheduler": "euler", "timestep_spacing": None}),
    ],
    ids=str,
)
def test_what_is_given_goes_before_the_word(given: dict[str, Any], expected: dict[str, Any]) -> None:
    options = dict(resolved(quality="fast", **given))
    found = {name: options[name] for name in expected}
    assert msgspec.to_builtins(found) == msgspec.to_builtins(expected)


@pytest.mark.parametrize(
    ("strength", "steps"), [(1, 10), (0.5, 10), (0.1, 11), (0.05, 21), (0.001, 50), (0, 10)]
)
def test_at_a_low_strength_a_step_is_left(strength: float, steps: int) -> None:
    assert resolved(quality="fast", strength=strength)["num_inference_steps"] == steps


@pytest.mark.parametrize("word", ["balanced", "fast"])
def test_a_preset_beside_a_word_is_refused(word: Any) -> None:
    with pytest.raises(ParameterError, match=f"quality '{word}' and a preset") as caught:
        make_options(quality=word, preset="tcd")
    assert caught.value.parameter == "quality"
    assert "leave quality out" in str(caught.value)
    assert make_options(quality="exact", preset="tcd")["scheduler"] == "tcd"


@pytest.mark.parametrize("value", ["best", "", None, 3, ["fast"]])
def test_another_word_is_refused(value: Any) -> None:
    with pytest.raises(ParameterError, match="quality") as caught:
        make_options(quality=value)
    assert caught.value.parameter == "quality"
    assert caught.value.expected == "'balanced', 'exact' or 'fast'"


def test_an_unknown_sampler_beside_a_word_is_refused() -> None:
    with pytest.raises(SchedulerError, match="unknown sampler"):
        make_options(quality="fast", scheduler="dimm")


@pytest.fixture
def manifest() -> Manifest:
    return load_manifest(find_bundle("demo"))


def with_scheduler(manifest: Manifest, **changes: Any) -> Manifest:
    plain = msgspec.structs.replace(manifest, quality={})
    return msgspec.structs.replace(plain, scheduler={**manifest.scheduler, **changes})


def test_measured_settings_go_before_documented_ones(manifest: Manifest) -> None:
    found = qualities_of(msgspec.structs.replace(manifest, quality={"fast": MEASURED}))
    assert found == {"balanced": DOCUMENTED["balanced"], "fast": CHOSEN}
    assert resolved(found, quality="fast")["guidance_interval"] == (0.0, 0.5)
    assert qualities_of(with_scheduler(manifest)) == DOCUMENTED


@pytest.mark.parametrize(
    "changes",
    [{"_class_name": "LCMScheduler"}, {"_class_name": "TCDScheduler"}, {"timestep_spacing": "trailing"}],
    ids=str,
)
def test_few_step_checkpoints_keep_sampler_and_guidance(manifest: Manifest, changes: dict[str, Any]) -> None:
    found = qualities_of(with_scheduler(manifest, **changes))
    assert {word: settings.options for word, settings in found.items()} == {
        "balanced": {"num_inference_steps": 8, "guidance_interval": (0.0, 1.0)},
        "fast": {"num_inference_steps": 4, "guidance_interval": (0.0, 1.0)},
    }


def test_a_unet_that_takes_the_guidance_scale_keeps_its_sampler(manifest: Manifest) -> None:
    architecture = msgspec.structs.replace(manifest.architecture, guidance_embedding_width=16)
    found = qualities_of(msgspec.structs.replace(manifest, architecture=architecture, quality={}))
    assert {settings.scheduler for settings in found.values()} == {None}


def test_pure_noise_at_the_end_wants_ddim(manifest: Manifest) -> None:
    changes = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    found = qualities_of(with_scheduler(manifest, **changes))
    assert {settings.scheduler for settings in found.values()} == {"ddim"}


def _configurations() -> Iterator[dict[str, object]]:
    yield from options_of_every_class()
    for prediction in (VELOCITY, SAMPLE):
        yield configuration("DDIMScheduler", prediction, {"rescale_betas_zero_snr": True})
    yield configuration("DDIMScheduler", EPSILON, {"steps_offset": 1, "set_alpha_to_one": False})


def test_every_scheduler_configuration_has_tables_for_the_words(manifest: Manifest) -> None:
    for config in _configurations():
        changed = msgspec.structs.replace(manifest, scheduler=config, quality={})
        for settings in qualities_of(changed).values():
            table = compile_table(
                config,
                settings.scheduler,
                settings.num_inference_steps,
                strength=1.0,
                timestep_spacing=settings.timestep_spacing,
            )
            assert table.rows >= settings.num_inference_steps
            assert np.isfinite(table.timesteps).all()


@pytest.fixture
def measured_bundle(tmp_path: Path) -> Path:
    """The demo bundle with other measured settings, for "fast" alone."""
    folder = shutil.copytree(find_bundle("demo"), tmp_path / "measured")
    save_manifest(msgspec.structs.replace(load_manifest(folder), quality={"fast": MEASURED}), folder)
    return folder


def test_images_are_those_of_the_measured_settings(measured_bundle: Path) -> None:
    with InpaintPipeline.from_bundle(measured_bundle, threads=1) as pipe:
        fast, explicit, exact = (
            np.asarray(pipe(**TASK, **options).images[0])
            for options in ({"quality": "fast"}, CHOSEN.options, {"num_inference_steps": 3})
        )
    assert np.array_equal(fast, explicit)
    assert not np.array_equal(fast, exact)


def _run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def test_the_command_line_applies_and_records_them(measured_bundle: Path, tmp_path: Path) -> None:
    for name in ("image", "mask_image"):
        Image.fromarray(np.asarray(TASK[name])).save(tmp_path / f"{name}.png")
    output = tmp_path / "painted.png"
    files = ("--image", tmp_path / "image.png", "--mask", tmp_path / "mask_image.png")
    result = _run("run", "-b", measured_bundle, *files, "-p", "a tree", "-o", output, "--quality", "fast")
    assert result.exit_code == 0, result.output
    with Image.open(output) as image:
        parameters = image.info["parameters"]
    assert '"quality": "fast"' in parameters
    assert '"num_inference_steps": 3' in parameters
    assert '"scheduler": "ddim"' in parameters


def test_inspect_shows_them(measured_bundle: Path) -> None:
    printed = _run("inspect", measured_bundle).output
    (fast,) = (line for line in printed.splitlines() if line.startswith("│ fast"))
    assert [cell.strip() for cell in fast.strip("│").split("│")] == [
        *("fast", "ddim", "3", "-", "0 to 0.5", "0.25 of 20 exact steps", "27.5 dB", "90% of 200")
    ]
    (balanced,) = (line for line in printed.splitlines() if line.startswith("│ balanced"))
    assert "unipc" in balanced


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_inference_steps": 0}, "not a manifest"),
        ({"num_inference_steps": 3, "guidance_interval": (0.5, 1.5)}, "not a manifest"),
        ({"num_inference_steps": 3, "guidance_interval": (0.5, 0.2)}, "no guidance interval"),
        ({"num_inference_steps": 3, "scheduler": "dimm"}, "unknown sampler"),
    ],
    ids=str,
)
def test_settings_that_cannot_hold_are_refused(
    measured_bundle: Path, settings: dict[str, Any], words: str
) -> None:
    manifest = load_manifest(measured_bundle)
    broken = msgspec.structs.replace(MEASURED, settings=QualitySettings(**settings))
    save_manifest(msgspec.structs.replace(manifest, quality={"fast": broken}), measured_bundle)
    with pytest.raises(BundleFormatError, match=words) as caught:
        InpaintPipeline.from_bundle(measured_bundle, threads=1)
    assert caught.value.hint
