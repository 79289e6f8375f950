"""A bundle in memory whose weights LoRAs change, beside the bundle itself."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from inpaintrt import InpaintPipeline
from inpaintrt.errors import LoraMismatchError
from inpaintrt.loading import LoadedBundle, load_bundle, load_variant
from inpaintrt.lora import changed_bytes, open_loras
from inpaintrt.store import find_bundle
from runtime.image_tools import disc_mask, gradient

SIDE = 64
TO_Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.diff"
TO_K = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k.diff"
WORDS = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.diff"


@pytest.fixture(scope="module")
def base() -> LoadedBundle:
    return load_bundle("demo", backend_options={"threads": 1})


def write(path: Path, **shapes: tuple[int, ...]) -> Path:
    generator = np.random.default_rng(0)
    names = {"to_q": TO_Q, "to_k": TO_K, "words": WORDS, "elsewhere": "unet.elsewhere.diff"}
    names["second"] = "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj.diff"
    save_file(
        {names[name]: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()},
        path,
    )
    return path


def painted(pipe: InpaintPipeline) -> NDArray[np.float32]:
    inputs = "a red balloon", gradient(SIDE, SIDE), disc_mask(SIDE, SIDE)
    images = pipe(*inputs, num_inference_steps=3, seed=0, output_type="np").images
    assert isinstance(images, np.ndarray)
    return images


def test_what_is_not_changed_is_shared_and_the_image_is_that_of_from_bundle(
    base: LoadedBundle, tmp_path: Path
) -> None:
    path = write(tmp_path / "style.safetensors", to_q=(96, 96))
    variant = load_variant(base, open_loras([(path, 0.7)]))
    assert variant.source == base.source
    assert {name for name in base.engines if variant.engines[name] is not base.engines[name]} == {"denoiser"}
    image = painted(InpaintPipeline(variant))
    with InpaintPipeline.from_bundle("demo", loras=[(path, 0.7)], threads=1) as pipe:
        assert np.array_equal(image, painted(pipe))
    assert not np.array_equal(image, painted(InpaintPipeline(base)))


def test_the_bytes_that_loras_change(base: LoadedBundle, tmp_path: Path) -> None:
    folder = find_bundle("demo")
    first = write(tmp_path / "first.safetensors", to_q=(96, 96), words=(64, 64))
    second = write(tmp_path / "second.safetensors", to_q=(96, 96), to_k=(96, 96))
    of_first, of_second = 4 * (96 * 96 + 64 * 64), 4 * 2 * 96 * 96
    for paths, expected in (
        ([], 0),
        ([first], of_first),
        ([second], of_second),
        ([first, second], of_first + of_second // 2),
    ):
        assert changed_bytes(folder, base.manifest, open_loras(paths)) == expected


@pytest.mark.parametrize(
    ("tensors", "words"), [({"elsewhere": (2, 2)}, "unet.elsewhere"), ({"second": (2, 2)}, "text_encoder_2")]
)
def test_what_the_bundle_does_not_have_is_refused(
    base: LoadedBundle, tmp_path: Path, tensors: dict[str, tuple[int, ...]], words: str
) -> None:
    loras = open_loras([write(tmp_path / "other.safetensors", **tensors)])
    for apply in (
        lambda: changed_bytes(find_bundle("demo"), base.manifest, loras),
        lambda: load_variant(base, loras),
    ):
        with pytest.raises(LoraMismatchError, match=words):
            apply()
