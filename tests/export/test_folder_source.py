import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bundles import SD_PARTS
from inpaintrt.errors import SourceError, UnsafeWeightsError
from inpaintrt_export.sources.checkpoint import Part
from inpaintrt_export.sources.folder import FolderSource
from inpaintrt_export.sources.synthetic import SyntheticSource, save_checkpoint

WEIGHTS = {
    "text_encoder": "model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
}
PICKLED = {
    "text_encoder": "pytorch_model.bin",
    "vae": "diffusion_pytorch_model.bin",
    "unet": "diffusion_pytorch_model.bin",
}


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def source(folder: Path, **options: Any) -> FolderSource:
    return FolderSource(folder, name="test", **options)


def pickle_weights(folder: Path, part: Part) -> None:
    path = folder / part / WEIGHTS[part]
    torch.save(load_file(path), folder / part / PICKLED[part])
    path.unlink()


def assert_same(first: torch.nn.Module, second: torch.nn.Module) -> None:
    expected = second.state_dict()
    found = first.state_dict()
    assert set(found) == set(expected)
    for name, weight in found.items():
        assert weight.dtype == torch.float32
        # A synthetic VAE is normalised by sums, whose last bits depend on the number of threads.
        assert torch.allclose(weight, expected[name].float(), rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("part", SD_PARTS)
def test_parts_are_read_as_they_were_saved(folder: Path, part: Part) -> None:
    assert_same(source(folder).load(part), SyntheticSource("synthetic:tiny", 0).load(part))


@pytest.mark.parametrize("part", SD_PARTS)
def test_pickled_weights_are_refused(folder: Path, part: Part) -> None:
    pickle_weights(folder, part)
    with pytest.raises(UnsafeWeightsError, match=r"(?s)can execute code.*--allow-pickle"):
        source(folder).load(part)


@pytest.mark.parametrize("part", SD_PARTS)
def test_pickled_weights_are_read_when_allowed(folder: Path, part: Part) -> None:
    pickle_weights(folder, part)
    found = source(folder, allow_pickle=True)
    assert_same(found.load(part), SyntheticSource("synthetic:tiny", 0).load(part))
    assert found.origin().sha256 is not None


def test_safetensors_are_preferred_where_there_are_both(folder: Path) -> None:
    (folder / "vae" / PICKLED["vae"]).write_bytes(b"not a pickle")
    source(folder, allow_pickle=True).load("vae")


@pytest.mark.parametrize("part", SD_PARTS)
def test_missing_weights_are_named(folder: Path, part: Part) -> None:
    (folder / part / WEIGHTS[part]).unlink()
    with pytest.raises(SourceError, match=rf"(?s)no weights of the {part}.*{WEIGHTS[part]}"):
        source(folder).load(part)


@pytest.mark.parametrize("part", SD_PARTS)
def test_weights_of_another_shape_are_refused(folder: Path, part: Part) -> None:
    path = folder / part / WEIGHTS[part]
    weights = load_file(path)
    name = max(weights, key=lambda name: weights[name].numel())
    save_file({**weights, name: weights[name][:-1].contiguous()}, path, {"format": "pt"})
    with pytest.raises(SourceError, match=part):
        source(folder).load(part)


@pytest.mark.parametrize("part", SD_PARTS)
def test_missing_tensor_is_not_made_up(folder: Path, part: Part) -> None:
    path = folder / part / WEIGHTS[part]
    weights = load_file(path)
    name = max(weights, key=lambda name: weights[name].numel())
    del weights[name]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(SourceError, match="do not fit") as caught:
        source(folder).load(part)
    assert name.removeprefix("text_model.") in str(caught.value)


@pytest.mark.parametrize("part", SD_PARTS)
def test_truncated_weights_are_refused(folder: Path, part: Part) -> None:
    path = folder / part / WEIGHTS[part]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SourceError, match="cannot be loaded"):
        source(folder).load(part)


def test_sharded_weights_are_read_and_count_in_the_digest(folder: Path) -> None:
    path = folder / "unet" / WEIGHTS["unet"]
    weights = load_file(path)
    before = source(folder).origin().sha256
    names = sorted(weights)
    halves = {1: names[: len(names) // 2], 2: names[len(names) // 2 :]}
    index: dict[str, str] = {}
    for number, part in halves.items():
        file = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / "unet" / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    content = {"metadata": {"total_size": 1}, "weight_map": index}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(content))
    path.unlink()
    assert_same(source(folder).load("unet"), SyntheticSource("synthetic:tiny", 0).load("unet"))
    assert source(folder).origin().sha256 != before


def test_variant_is_read_in_float32_and_only_when_asked(folder: Path) -> None:
    for part in SD_PARTS:
        path = folder / part / WEIGHTS[part]
        halves = {name: weight.half() for name, weight in load_file(path).items()}
        save_file(halves, path.with_suffix(".fp16.safetensors"), {"format": "pt"})
        path.unlink()
    for part in SD_PARTS:
        weights = source(folder, variant="fp16").load(part).state_dict()
        assert {weight.dtype for weight in weights.values()} == {torch.float32}
    with pytest.raises(SourceError, match=r"diffusion_pytorch_model\.safetensors"):
        source(folder).load("vae")


def test_vae_with_the_old_names_of_attention_is_read(folder: Path) -> None:
    path = folder / "vae" / WEIGHTS["vae"]
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, weight in load_file(path).items():
        for new_part, old_part in old.items():
            name = name.replace(f"attentions.0.{new_part}.", f"attentions.0.{old_part}.")
        weights[name] = weight
    assert any("query" in name for name in weights)
    save_file(weights, path, {"format": "pt"})
    assert_same(source(folder).load("vae"), SyntheticSource("synthetic:tiny", 0).load("vae"))


def test_text_encoder_with_the_names_of_transformers_4_is_read(folder: Path) -> None:
    path = folder / "text_encoder" / WEIGHTS["text_encoder"]
    weights = load_file(path)
    prefixed = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in weights.items()}
    prefixed["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(prefixed, path, {"format": "pt"})
    expected = SyntheticSource("synthetic:tiny", 0).load("text_encoder")
    assert_same(source(folder).load("text_encoder"), expected)


def test_digest_changes_with_any_weight(folder: Path, tmp_path: Path) -> None:
    before = source(folder).origin()
    assert before.sha256 == source(folder).origin().sha256
    path = folder / "vae" / WEIGHTS["vae"]
    weights = load_file(path)
    weights["quant_conv.bias"] += 1
    save_file(weights, path, {"format": "pt"})
    assert source(folder).origin().sha256 != before.sha256


def test_synthetic_checkpoint_depends_on_its_seed_alone(tmp_path: Path) -> None:
    first, again, other = (SyntheticSource("synthetic:tiny", seed).load("unet") for seed in (0, 0, 1))
    assert_same(first, again)
    assert not torch.equal(first.conv_in.weight, other.conv_in.weight)  # type: ignore[arg-type, union-attr]


def test_synthetic_networks_are_not_degenerate() -> None:
    synthetic = SyntheticSource("synthetic:tiny", 0)
    unet: Any = synthetic.load("unet")
    vae: Any = synthetic.load("vae")
    torch.manual_seed(1)
    with torch.no_grad():
        sample, context = torch.randn(2, 9, 8, 8), torch.randn(2, 77, 16)
        predicted = unet(sample, 500, context).sample
        assert 0.5 < predicted.std() < 2
        assert (predicted - unet(sample, 500, context.flip(0)).sample).std() > 0.1
        assert (predicted - unet(sample, 100, context).sample).std() > 0.1
        posterior = vae.encode(torch.rand(2, 3, 64, 64) * 2 - 1).latent_dist
        assert 0.5 < posterior.mean.std() * 0.18215 < 2
        assert -10 < posterior.logvar.mean() < 0
        image = vae.decode(torch.randn(2, 4, 8, 8) / 0.18215).sample
        assert 0.3 < image.std() < 1


def test_unknown_synthetic_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="synthetic:sd15-inpaint"):
        save_checkpoint("synthetic:nothing", tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()
