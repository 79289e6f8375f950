"""What is refused, with the real export of a checkpoint folder that was spoilt in one place."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inpaintrt.errors import InpaintError, ParameterError, SourceError
from inpaintrt_export.exporter import export_bundle
from inpaintrt_export.families.sd import rewrite_scheduler_config

Spoil = Callable[..., Path]


@pytest.fixture
def spoil(tiny_checkpoint: Path, tmp_path: Path) -> Spoil:
    """A copy of the tiny checkpoint with changes in one configuration file; None removes an entry."""

    def spoil(file: str, **changes: Any) -> Path:
        folder = tmp_path / "checkpoint"
        shutil.copytree(tiny_checkpoint, folder)
        config = json.loads((folder / file).read_text())
        config = {name: value for name, value in {**config, **changes}.items() if value is not None}
        (folder / file).write_text(json.dumps(config))
        return folder

    return spoil


def refusal(checkpoint: Path, error: type[InpaintError] = SourceError) -> str:
    """The message of an export that is refused, which leaves nothing behind."""
    output = checkpoint.parent / "output" / "bundle"
    with pytest.raises(error) as caught:
        export_bundle(checkpoint, output)
    assert not output.exists()
    assert not output.parent.exists() or not list(output.parent.iterdir())
    return str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("in_channels", 5),
        ("out_channels", 8),
        ("addition_embed_type", "text"),
        ("class_embed_type", "timestep"),
        ("encoder_hid_dim_type", "image_proj"),
        ("num_class_embeds", 7),
        ("sample_size", None),
        ("_class_name", "UNet2DModel"),
    ],
)
def test_unet_of_another_kind_is_refused(spoil: Spoil, option: str, value: object) -> None:
    message = refusal(spoil("unet/config.json", **{option: value}))
    assert option in message or str(value) in message


def test_a_unet_of_sdxl_needs_the_second_text_encoder(spoil: Spoil) -> None:
    assert "no text_encoder_2" in refusal(spoil("unet/config.json", addition_embed_type="text_time"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("latent_channels", None),
        ("block_out_channels", None),
        ("shift_factor", 0.1),
        ("latents_mean", [0.0, 0.0, 0.0, 0.0]),
        ("_class_name", "AsymmetricAutoencoderKL"),
    ],
)
def test_vae_of_another_kind_is_refused(spoil: Spoil, option: str, value: object) -> None:
    assert "VAE" in refusal(spoil("vae/config.json", **{option: value})).replace("vae", "VAE")


def test_text_encoder_that_does_not_fit_is_refused(spoil: Spoil) -> None:
    message = refusal(spoil("text_encoder/config.json", hidden_size=24))
    assert "width 24" in message
    assert "width 16" in message


def test_text_encoder_of_another_class_is_refused(spoil: Spoil) -> None:
    message = refusal(spoil("text_encoder/config.json", architectures=["T5EncoderModel"]))
    assert "T5EncoderModel" in message
    assert "CLIPTextModel" in message


def test_text_encoder_without_a_class_is_refused(spoil: Spoil) -> None:
    assert "CLIPTextModel" in refusal(spoil("text_encoder/config.json", architectures=None))


def test_unknown_scheduler_is_refused(spoil: Spoil) -> None:
    assert "DreamScheduler" in refusal(spoil("scheduler/scheduler_config.json", _class_name="DreamScheduler"))


def test_scheduler_that_no_table_expresses_is_refused(spoil: Spoil) -> None:
    message = refusal(spoil("scheduler/scheduler_config.json", beta_schedule="zigzag"), InpaintError)
    assert "zigzag" in message


@pytest.mark.parametrize("part", ["text_encoder", "vae", "unet", "scheduler", "tokenizer"])
def test_missing_part_is_named(tiny_checkpoint: Path, tmp_path: Path, part: str) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    shutil.rmtree(tmp_path / "checkpoint" / part)
    assert part in refusal(tmp_path / "checkpoint")


@pytest.mark.parametrize("content", ["{broken", "[]", ""])
def test_broken_configuration_is_refused(tiny_checkpoint: Path, tmp_path: Path, content: str) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "vae" / "config.json").write_text(content)
    assert "config.json is not" in refusal(tmp_path / "checkpoint")


def test_unknown_precision_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"(?s)bf16.*fp32 or fp16"):
        export_bundle(tiny_checkpoint, tmp_path / "bundle", precision="bf16")


@pytest.mark.parametrize("source", ["no-such-folder", "a/b/c", "synthetic:huge"])
def test_unknown_source_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(SourceError) as caught:
        export_bundle(source, tmp_path / "bundle")
    assert "synthetic:" in str(caught.value)


def test_scheduler_settings_are_those_that_inpainting_runs_with() -> None:
    outdated = {"_class_name": "PNDMScheduler", "skip_prk_steps": False, "steps_offset": 0}
    rewritten = rewrite_scheduler_config(outdated, inpaints=True)
    assert rewritten == {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 1}
    assert rewrite_scheduler_config({"_class_name": "PNDMScheduler"}, inpaints=True) == rewritten
    config = {"_class_name": "DDIMScheduler"}
    assert rewrite_scheduler_config(config, inpaints=True)["steps_offset"] == 1
    assert "clip_sample" not in rewrite_scheduler_config(config, inpaints=True)
    assert rewrite_scheduler_config(config, inpaints=False)["clip_sample"] is False


def test_scheduler_settings_that_do_not_exist_are_not_invented() -> None:
    config = {"_class_name": "DPMSolverSinglestepScheduler", "solver_order": 2}
    assert "skip_prk_steps" not in rewrite_scheduler_config(config, inpaints=True)
