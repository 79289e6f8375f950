"""Single-file checkpoints: the tiny checkpoint under the names of the first Stable Diffusion code base."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bundles import SD_PARTS, make_tiny_checkpoint
from export.original_names import Weights, read_parts, save, text_encoder_to_open_clip, to_original
from inpaintrt.errors import SourceError, UnsafeWeightsError
from inpaintrt_export.families.sd import check_architecture
from inpaintrt_export.sources import SourceOptions, open_source
from inpaintrt_export.sources import single_file as module
from inpaintrt_export.sources.checkpoint import Part
from inpaintrt_export.sources.folder import FolderSource
from inpaintrt_export.sources.layouts import LAYOUTS
from inpaintrt_export.sources.single_file import SingleFileSource


@pytest.fixture(scope="module")
def weights(tiny_checkpoint: Path) -> Weights:
    return to_original(tiny_checkpoint)


@pytest.fixture(scope="module")
def tiny_sd2_checkpoint(bundle_cache: Path) -> Path:
    """A 4-channel folder of the kind of Stable Diffusion 2, which predicts v."""
    return make_tiny_checkpoint(bundle_cache, "tiny-sd2")


@pytest.fixture(scope="module")
def sd2_weights(tiny_sd2_checkpoint: Path) -> Weights:
    return to_original(tiny_sd2_checkpoint, open_clip=True)


@pytest.fixture
def sd2_path(
    sd2_weights: Weights, tiny_sd2_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """`tiny_sd2_checkpoint` in one file, while v and epsilon are known of files of its context width."""
    base = dataclasses.replace(LAYOUTS["tiny-sd2"], scheduler=LAYOUTS["sd2-base"].scheduler)
    monkeypatch.setitem(module.LAYOUTS_BY_CONTEXT_WIDTH, 16, (LAYOUTS["tiny-sd2"], base, LAYOUTS["tiny"]))
    save(sd2_weights, tmp_path / "sd2.safetensors")
    shutil.copytree(tiny_sd2_checkpoint / "tokenizer", tmp_path / "tokenizer")
    return tmp_path / "sd2.safetensors"


@pytest.fixture
def path(weights: Weights, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, with the tokenizer beside it, while files of its context width are known."""
    monkeypatch.setitem(module.LAYOUTS_BY_CONTEXT_WIDTH, 16, (LAYOUTS["tiny-text-to-image"], LAYOUTS["tiny"]))
    save(weights, tmp_path / "checkpoint.safetensors")
    shutil.copytree(tiny_checkpoint / "tokenizer", tmp_path / "tokenizer")
    return tmp_path / "checkpoint.safetensors"


def assert_checkpoint(folder: Path, source: SingleFileSource) -> None:
    """What a file gives is what its folder gives, weight by weight and setting by setting."""
    assert_weights_of(folder, source)
    expected = FolderSource(folder, name="folder")
    assert check_architecture(source) == check_architecture(expected)
    assert source.scheduler_config().items() <= expected.scheduler_config().items()
    assert source.tokenizer("text_encoder")[1] == expected.tokenizer("text_encoder")[1]


def assert_weights_of(checkpoint: Path, source: SingleFileSource) -> None:
    for part, expected in read_parts(checkpoint).items():
        plain = {name.removeprefix("text_model."): weight for name, weight in expected.items()}
        found = source.load(part).state_dict()
        assert {name.removeprefix("text_model.") for name in found} == set(plain)
        for name, weight in found.items():
            assert torch.equal(weight, plain[name.removeprefix("text_model.")]), name


def test_parts_are_those_of_the_folder(path: Path, tiny_checkpoint: Path) -> None:
    assert_weights_of(tiny_checkpoint, SingleFileSource(path))


def test_open_clip_text_encoder_is_converted(path: Path, weights: Weights, tiny_checkpoint: Path) -> None:
    changed = {name: weight for name, weight in weights.items() if not name.startswith("cond_stage_model.")}
    changed |= text_encoder_to_open_clip(read_parts(tiny_checkpoint)["text_encoder"])
    changed["cond_stage_model.model.transformer.resblocks.23.ln_1.weight"] = torch.zeros(16)
    save(changed, path)
    assert_weights_of(tiny_checkpoint, SingleFileSource(path))


def test_half_weights_are_read_in_float32(path: Path, weights: Weights) -> None:
    save({name: weight.half() for name, weight in weights.items()}, path)
    for part in SD_PARTS:
        dtypes = {weight.dtype for weight in SingleFileSource(path).load(part).state_dict().values()}
        assert dtypes == {torch.float32}


def test_file_is_found_and_passes_the_checks(path: Path) -> None:
    source = open_source(str(path), SourceOptions())
    assert isinstance(source, SingleFileSource)
    assert check_architecture(source).context_width == 16
    assert source.scheduler_config()["prediction_type"] == "epsilon"
    assert source.tokenizer("text_encoder")[0].get_vocab_size() == 768
    origin = source.origin()
    assert origin.id == "checkpoint.safetensors"
    assert origin.sha256 is not None


def test_a_text_to_image_file_is_that_of_the_folder(path: Path, tiny_text_to_image_checkpoint: Path) -> None:
    save(to_original(tiny_text_to_image_checkpoint), path)
    assert_checkpoint(tiny_text_to_image_checkpoint, SingleFileSource(path))
    assert check_architecture(SingleFileSource(path)).condition_channels == 0


def test_a_text_to_image_file_of_sd2_is_that_of_the_folder(sd2_path: Path, tiny_sd2_checkpoint: Path) -> None:
    assert_checkpoint(tiny_sd2_checkpoint, SingleFileSource(sd2_path))


def test_a_pickled_text_to_image_file_of_sd2_is_that_of_the_folder(
    sd2_path: Path, sd2_weights: Weights, tiny_sd2_checkpoint: Path
) -> None:
    pickled = sd2_path.with_suffix(".ckpt")
    torch.save({"state_dict": sd2_weights, "global_step": 140_000}, pickled)
    assert_checkpoint(tiny_sd2_checkpoint, SingleFileSource(pickled, allow_pickle=True))


def test_a_file_of_sd2_says_what_it_predicts(sd2_path: Path, sd2_weights: Weights) -> None:
    def predicted(path: Path = sd2_path, **options: Any) -> object:
        return SingleFileSource(path, **options).scheduler_config()["prediction_type"]

    assert predicted() == "v_prediction"
    assert predicted(prediction_type="epsilon") == "epsilon"
    pickled = sd2_path.with_suffix(".ckpt")
    torch.save({"state_dict": sd2_weights, "global_step": 875_000}, pickled)
    assert predicted(pickled, allow_pickle=True) == "epsilon"
    for word, meant in (("epsilon", "epsilon"), ("v", "v_prediction"), ("", "v_prediction")):
        save(sd2_weights, sd2_path, {"modelspec.prediction_type": word})
        assert predicted() == meant
    save(sd2_weights, sd2_path, {"modelspec.prediction_type": "epsilon"})
    sd2_path.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    assert predicted() == "v_prediction"
    assert predicted(prediction_type="epsilon") == "epsilon"
    sd2_path.with_suffix(".yaml").write_text("model:\n  params:\n    linear_start: 0.00085\n")
    assert predicted() == "epsilon"


def test_an_unknown_parameterization_is_refused(sd2_path: Path) -> None:
    sd2_path.with_suffix(".yaml").write_text("model:\n  params:\n    parameterization: flow\n")
    with pytest.raises(SourceError, match=r"(?s)sd2\.yaml.*flow.*--prediction-type"):
        SingleFileSource(sd2_path)


def test_a_base_file_of_sd2_has_the_size_of_its_layout() -> None:
    v, base, inpainting = module.LAYOUTS_BY_CONTEXT_WIDTH[1024]
    sizes = [layout.parts["unet"]["sample_size"] for layout in (v, base, inpainting)]
    assert sizes == [96, 64, 64]


def test_a_file_of_sd15_predicts_v_if_it_says_so(path: Path, weights: Weights) -> None:
    save(weights, path, {"modelspec.prediction_type": "v"})
    assert check_architecture(SingleFileSource(path)).prediction_type == "v_prediction"


@pytest.mark.parametrize("source", ["synthetic:tiny", "folder"])
def test_what_is_predicted_can_be_said_of_every_source(tiny_checkpoint: Path, source: str) -> None:
    options = SourceOptions(prediction_type="v_prediction")
    opened = open_source(str(tiny_checkpoint) if source == "folder" else source, options)
    assert check_architecture(opened).prediction_type == "v_prediction"


def test_file_of_another_family_is_refused(path: Path, weights: Weights) -> None:
    name = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    save({**weights, name: torch.zeros(16, 320)}, path)
    with pytest.raises(SourceError, match=r"(?s)width 320.*768, 1024, 1280, 2048"):
        SingleFileSource(path)


def test_file_without_a_unet_is_refused(path: Path) -> None:
    save({"lora_unet.up.weight": torch.zeros(4, 4)}, path)
    with pytest.raises(SourceError, match="not a Stable Diffusion checkpoint"):
        SingleFileSource(path)


@pytest.mark.parametrize(("part", "prefix"), [("vae", "first_stage_model."), ("text_encoder", "cond_stage")])
def test_missing_part_is_named(path: Path, weights: Weights, part: Part, prefix: str) -> None:
    save({name: weight for name, weight in weights.items() if not name.startswith(prefix)}, path)
    with pytest.raises(SourceError, match=f"no {part} in"):
        SingleFileSource(path).load(part)


@pytest.mark.parametrize("name", ["first_stage_model.quant_conv.bias", "model.diffusion_model.out.2.bias"])
def test_missing_and_mis_shaped_weights_are_refused(path: Path, weights: Weights, name: str) -> None:
    part: Part = "vae" if name.startswith("first") else "unet"
    save({key: weight for key, weight in weights.items() if key != name}, path)
    with pytest.raises(SourceError, match=f"the {part} in .* cannot be loaded"):
        SingleFileSource(path).load(part)
    save({**weights, name: torch.zeros(7)}, path)
    with pytest.raises(SourceError, match=f"the {part} in .* cannot be loaded"):
        SingleFileSource(path).load(part)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_file_that_is_not_safetensors_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SourceError, match="not a whole"):
        SingleFileSource(path)


def test_truncated_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(SourceError, match="not a whole"):
        SingleFileSource(path)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_pickled_file_is_refused_unless_allowed(
    path: Path, weights: Weights, tiny_checkpoint: Path, suffix: str
) -> None:
    pickled = path.with_suffix(suffix)
    torch.save({"state_dict": weights}, pickled)
    with pytest.raises(UnsafeWeightsError, match="--allow-pickle"):
        SingleFileSource(pickled)
    assert_weights_of(tiny_checkpoint, SingleFileSource(pickled, allow_pickle=True))


class Bomb:
    """An object whose pickle runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def test_pickled_code_is_not_run_even_when_pickles_are_allowed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    torch.save({"state_dict": {"x": Bomb()}}, "bomb.ckpt")
    with pytest.raises(SourceError, match="cannot be read"):
        SingleFileSource(Path("bomb.ckpt"), allow_pickle=True)
    assert not Path("exploded").exists()


def test_tokenizer_must_lie_beside_the_file_or_be_named(path: Path) -> None:
    elsewhere = path.parent / "elsewhere"
    shutil.move(path.parent / "tokenizer", elsewhere)
    with pytest.raises(SourceError, match="--tokenizer"):
        SingleFileSource(path).tokenizer("text_encoder")
    assert SingleFileSource(path, tokenizer=elsewhere).tokenizer("text_encoder")[1] == 767
    for file in elsewhere.iterdir():
        shutil.copy(file, path.parent)
    assert SingleFileSource(path).tokenizer("text_encoder")[1] == 767
