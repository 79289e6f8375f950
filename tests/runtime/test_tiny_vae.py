"""A tiny VAE in the place of the checkpoint's own: what diffusers' pipelines make with `AutoencoderTiny`."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from diffusers import AutoencoderTiny
from PIL import Image

from bundles import make_tiny_checkpoint
from inpaintrt import InpaintPipeline
from inpaintrt.backends import Array, image_sizes
from inpaintrt.backends.shapes import Shapes
from inpaintrt.bundle import TINY_VAE, TensorSpec, load_manifest, save_manifest
from inpaintrt.cli.run import run
from inpaintrt.errors import BundleFormatError, ParameterError, PlanError
from inpaintrt.loading import load_bundle
from runtime.image_tools import disc_mask, gradient, largest_difference
from runtime.reference import SAMPLERS, Reference, compare
from runtime.reference_xl import ReferenceXL
from tiny_vaes import make_bundle_with_tiny_vae, make_tiny_vae

# diffusers hands PyTorch tensors to NumPy in its schedulers, and asks for an image for each prompt.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You have passed:FutureWarning"),
]

PROMPT = "a red balloon over the hills"
SIDE = 64
IMAGE = gradient(SIDE, SIDE)
MASK = disc_mask(SIDE, SIDE)
SIZE: Mapping[str, Any] = {"height": SIDE, "width": SIDE}
INPAINTING: Mapping[str, Any] = {"image": IMAGE, "mask_image": MASK, **SIZE}
SHORT: Mapping[str, Any] = {"prompt": PROMPT, "num_inference_steps": 4, "seed": 0}


def opened(bundle: Path) -> InpaintPipeline:
    """A bundle, run by one thread: its networks are too small for more."""
    return InpaintPipeline(load_bundle(bundle, backend_options={"threads": 1}))


class Pair:
    """A checkpoint in both libraries, in diffusers with the tiny VAE in the place of its own."""

    def __init__(self, cache: Path, name: str) -> None:
        self.ours = opened(make_bundle_with_tiny_vae(cache, name))
        vae = AutoencoderTiny.from_pretrained(make_tiny_vae(cache))
        checkpoint = make_tiny_checkpoint(cache, name)
        xl = "sdxl" in name
        self.theirs: Any = ReferenceXL(checkpoint, vae=vae) if xl else Reference(checkpoint, vae=vae)

    def compare(self, **case: Any) -> None:
        """Ask both for the same, as diffusers does it."""
        compare(self.ours(**case, vae="tiny", compat="diffusers").images, self.theirs(**case))


@pytest.fixture(scope="module")
def pair_of(bundle_cache: Path) -> Iterator[Callable[[str], Pair]]:
    """Tiny checkpoints by name, each opened once."""
    pairs: dict[str, Pair] = {}

    def pair_of(name: str) -> Pair:
        if name not in pairs:
            pairs[name] = Pair(bundle_cache, name)
        return pairs[name]

    yield pair_of
    for pair in pairs.values():
        pair.ours.close()


@pytest.fixture(scope="module")
def ours(bundle_cache: Path) -> Iterator[InpaintPipeline]:
    """A bundle with two VAEs."""
    with opened(make_bundle_with_tiny_vae(bundle_cache)) as pipe:
        yield pipe


CROP: Mapping[str, Any] = {
    "image": gradient(200, 150),
    "mask_image": disc_mask(200, 150),
    "padding_mask_crop": 10,
    **SIZE,
}
TASKS: Mapping[str, Mapping[str, Any]] = {
    "inpainting": INPAINTING,
    "inpainting, strength 0.6": {**INPAINTING, "strength": 0.6},
    "inpainting, three images": {**INPAINTING, "strength": 0.6, "num_images_per_prompt": 3},
    "inpainting, list of seeds": {
        **INPAINTING,
        "strength": 0.6,
        "num_images_per_prompt": 2,
        "seed": [5, 6],
    },
    "inpainting, crop": CROP,
    "image-to-image": {"image": IMAGE, "strength": 0.8},
    "image-to-image, list of seeds": {
        "image": IMAGE,
        "strength": 0.8,
        "num_images_per_prompt": 2,
        "seed": [5, 6],
    },
    "image-to-image, size of its own": {"image": gradient(75, 66), "strength": 0.8},
    "text-to-image": SIZE,
    "text-to-image, two prompts": {**SIZE, "prompt": [PROMPT, "a blue house"]},
}
OF_NINE_CHANNELS = [title for title in TASKS if title.startswith("inpainting")]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        *(("tiny-text-to-image", title) for title in TASKS),
        *(("tiny", title) for title in OF_NINE_CHANNELS),
        *(("tiny-sdxl", title) for title in TASKS),
    ],
)
def test_images_equal_diffusers(pair_of: Callable[[str], Pair], name: str, title: str) -> None:
    pair_of(name).compare(**{**SHORT, **TASKS[title]})


@pytest.mark.parametrize("sampler", ["ddim eta", "euler_a", "lcm"])
def test_samplers_that_draw_noise_draw_it_as_in_diffusers(
    pair_of: Callable[[str], Pair], sampler: str
) -> None:
    pair = pair_of("tiny-text-to-image")
    name, scheduler, changes = SAMPLERS[sampler]
    case = {**SHORT, **INPAINTING, "strength": 0.6, **({"eta": 1.0} if sampler == "ddim eta" else {})}
    reference = getattr(diffusers, scheduler).from_config(pair.theirs.scheduler.config, **changes)
    found = pair.ours(**case, vae="tiny", scheduler=name, compat="diffusers").images
    compare(found, pair.theirs(**case, scheduler=reference))


def test_both_vaes_differ_and_the_own_one_is_the_default(
    ours: InpaintPipeline, tiny_text_to_image_bundle: Path
) -> None:
    case = {**SHORT, **INPAINTING, "strength": 0.6}
    full, tiny = ours(**case).images[0], ours(**case, vae="tiny").images[0]
    assert largest_difference(full, tiny) > 10
    with opened(tiny_text_to_image_bundle) as alone:
        assert largest_difference(full, alone(**case).images[0]) == 0
    assert largest_difference(full, ours(**case, vae="full").images[0]) == 0


def test_what_is_kept_of_an_image_stays_to_the_bit(ours: InpaintPipeline) -> None:
    image, mask = gradient(200, 150), disc_mask(200, 150)
    found = ours(**SHORT, image=image, mask_image=mask, vae="tiny", match_colors=False).images[0]
    kept = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(found)[kept], np.asarray(image)[kept])


def test_latents_of_one_vae_are_decoded_by_the_other(ours: InpaintPipeline) -> None:
    """Scaled latents are the same for both, so that the scale of each is its own."""
    latents = ours(**SHORT, **SIZE, output_type="latent").images
    assert isinstance(latents, np.ndarray)
    expected = ours.stages.engines["tiny_vae_decoder"].run({"latent_sample": latents})["sample"][0]
    found: Any = ours(**SHORT, **SIZE, vae="tiny", compat="diffusers", output_type="np").images[0]
    np.testing.assert_allclose(found, np.clip(expected.transpose(1, 2, 0) / 2 + 0.5, 0, 1), atol=1e-5)


@pytest.mark.parametrize("vae", ["full", "tiny"])
def test_previews_are_decoded_by_the_tiny_vae(ours: InpaintPipeline, vae: Any) -> None:
    case = {**SHORT, **SIZE, "vae": vae}
    stream = ours.stream(**case)
    decoders = {name: ours.stages.vaes.by_name[name] for name in ("full", "tiny")}
    assert ours.stages.vaes.for_previews is decoders["tiny"]
    for event in stream:
        if event.output is None:
            (preview,) = event.preview()
            assert preview.size == (SIDE, SIDE)
            assert np.asarray(preview).std() > 10


def test_a_tiny_vae_that_is_not_there_is_refused(tiny_text_to_image_bundle: Path) -> None:
    with opened(tiny_text_to_image_bundle) as pipe:
        with pytest.raises(
            ParameterError, match=r"(?s)no tiny VAE.*'full'.*inpaintrt add-tiny-vae"
        ) as caught:
            pipe(**SHORT, vae="tiny")
        assert caught.value.parameter == "vae"
        assert pipe.stages.vaes.for_previews is pipe.stages.vaes.by_name["full"]


def test_an_unknown_vae_is_refused(ours: InpaintPipeline) -> None:
    unknown: Any = "large"
    with pytest.raises(ParameterError, match=r"(?s)vae is unknown.*'full' or 'tiny'"):
        ours(**SHORT, vae=unknown)


@pytest.fixture
def copy(bundle_cache: Path, tmp_path: Path) -> Path:
    """A bundle with two VAEs, which a test may change."""
    return Path(shutil.copytree(make_bundle_with_tiny_vae(bundle_cache), tmp_path / "bundle"))


@pytest.mark.parametrize("lacking", [("tiny_vae_decoder",), TINY_VAE])
def test_a_manifest_without_the_components_of_its_tiny_vae_is_refused(
    copy: Path, lacking: tuple[str, ...]
) -> None:
    manifest = load_manifest(copy)
    builds = tuple(build for build in manifest.builds if build.component not in lacking)
    save_manifest(msgspec.structs.replace(manifest, builds=builds), copy)
    with pytest.raises(BundleFormatError, match=r"(?s)components.*expected.*tiny_vae_decoder"):
        load_manifest(copy)


def test_components_of_a_tiny_vae_that_the_manifest_does_not_describe_are_refused(copy: Path) -> None:
    save_manifest(msgspec.structs.replace(load_manifest(copy), tiny_vae=None), copy)
    with pytest.raises(BundleFormatError, match=r"(?s)components.*received.*tiny_vae_decoder"):
        load_manifest(copy)


class Built:
    """An engine that was built for one shape of its input."""

    def __init__(self, **shape: tuple[int, ...]) -> None:
        self.profiles = [shape]
        self.inputs: Mapping[str, TensorSpec] = {}
        self.outputs: Mapping[str, TensorSpec] = {}

    def fit(self, shapes: Shapes) -> Shapes:
        return shapes

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(inputs)

    def close(self) -> None:
        pass


def test_plans_of_a_tiny_vae_for_other_sizes_are_refused() -> None:
    engines = {
        "vae_encoder": Built(sample=(1, 3, 64, 64)),
        "denoiser": Built(state=(1, 6, 4, 8, 8)),
        "vae_decoder": Built(latent_sample=(1, 4, 8, 8)),
    }
    assert image_sizes(engines, 8) == ((64, 64),)
    engines["tiny_vae_encoder"] = Built(sample=(1, 3, 64, 64))
    assert image_sizes(engines, 8) == ((64, 64),)
    engines["tiny_vae_decoder"] = Built(latent_sample=(1, 4, 16, 8))
    with pytest.raises(PlanError, match=r"(?s)no image size in common.*tiny_vae_decoder 64x128"):
        image_sizes(engines, 8)


def test_the_command_takes_a_vae_and_writes_it_down(bundle_cache: Path, tmp_path: Path) -> None:
    bundle, output = make_bundle_with_tiny_vae(bundle_cache), tmp_path / "out.png"
    arguments = [
        "--bundle",
        str(bundle),
        "--prompt",
        PROMPT,
        "--steps",
        "2",
        "--seed",
        "3",
        "-o",
        str(output),
    ]
    result = CliRunner().invoke(run, [*arguments, "--vae", "tiny"])
    assert result.exit_code == 0, result.output
    painted = Image.open(output)
    assert json.loads(painted.text["parameters"])["vae"] == "tiny"  # type: ignore[attr-defined]
    with opened(bundle) as pipe:
        expected = pipe(PROMPT, num_inference_steps=2, seed=3, vae="tiny").images[0]
    assert largest_difference(painted, expected) <= 1
