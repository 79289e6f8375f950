"""What holds on every backend. A check fails with an AssertionError, and returns what it has measured.

Nothing in here knows of GPUs, so that the checks themselves are tested on the CPU.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.atomic import atomic_write
from inpaintrt.conditioning import named, row_shape
from inpaintrt.demo import load_scene
from inpaintrt.denoiser import Program, Slots
from inpaintrt.guidance import Guidance
from inpaintrt.noise import NoiseSource, StepNoise
from inpaintrt.output import Timings
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.samplers import compile_table
from inpaintrt_demo.cases import Case, evaluation_cases
from inpaintrt_demo.classifier import load_classifier
from inpaintrt_demo.evaluation import found_share

__all__ = [
    "STEPS",
    "Counts",
    "check_latents",
    "check_likeness",
    "check_meaning",
    "check_memory",
    "check_quiet_steps",
    "check_repeats",
    "check_timings",
    "count_steps",
    "paint",
    "paint_case",
    "peak_memory",
    "remembered",
    "share_slots",
]

STEPS = 20
MIN_PSNR = 40.0  # dB
MIN_FOUND = 0.75  # of the demo's cases; README tells what the CPU finds
CASES = 14
MAX_ERROR = 0.02  # relative, of latents
CLOCKS_DIFFER = 1.05
MAX_GROWTH = 16 * 2**20  # bytes

Images = NDArray[np.float32]


class Counts(Protocol):
    """A device that counts."""

    allocations: int
    synchronisations: int


def paint(pipe: InpaintPipeline, **options: Any) -> Images:
    """The demo's scene at the native size, as the VAE decodes it: `[images, height, width, 3]`.

    Nothing is pasted back, since pixels that are copied would flatter every comparison.
    """
    scene = load_scene()
    prompt = options.pop("prompt", scene.script.prompts[0])
    request: dict[str, Any] = {"num_inference_steps": STEPS, "seed": 1, "compat": "diffusers", **options}
    images: Any = pipe(prompt, scene.image, scene.mask, output_type="np", **request).images
    return np.asarray(images, np.float32)


def check_likeness(found: Images, expected: Images) -> float:
    """The PSNR in dB of the image that differs most from the expected one."""
    assert found.shape == expected.shape
    errors = np.square(found - expected).mean(axis=(1, 2, 3)).astype(float)
    psnr = float("inf") if errors.max() == 0 else -10 * float(np.log10(errors.max()))
    assert psnr >= MIN_PSNR
    return psnr


def paint_case(pipe: InpaintPipeline, case: Case, seed: int) -> Image.Image:
    """One of the demo's cases."""
    image = pipe(case.prompt, case.image, case.mask, num_inference_steps=STEPS, seed=seed).images[0]
    assert isinstance(image, Image.Image)
    return image


def check_meaning(painter: Callable[[Case, int], Image.Image]) -> float:
    """The share of the demo's cases in which the classifier finds what the prompt says."""
    cases = evaluation_cases(CASES)
    images = [painter(case, seed) for seed, case in enumerate(cases)]
    found = found_share(
        load_classifier(), images, [case.mask for case in cases], [case.thing for case in cases]
    )
    assert found >= MIN_FOUND
    return found


def share_slots(pipe: InpaintPipeline) -> Images:
    """Latents of a request that left early and of two that came later, all in the same two slots."""
    architecture = pipe.manifest.architecture
    height, width = (side // architecture.vae_scale_factor for side in architecture.native_resolution)
    slots = Slots(pipe.stages.step, capacity=2, latent_shape=(architecture.latent_channels, height, width))
    early = slots.join(*_request(pipe, 0, "ddim", (height, width)))
    slots.step()
    late = slots.join(*_request(pipe, 1, "euler_a", (height, width)))
    slots.step()
    results = [slots.leave(early)]
    last = slots.join(*_request(pipe, 2, "dpmpp_2m_karras", (height, width)))
    while slots.active:
        slots.step()
    return np.stack([*results, slots.leave(late), slots.leave(last)])


def _request(pipe: InpaintPipeline, seed: int, sampler: str, size: tuple[int, int]) -> Any:
    random = np.random.default_rng(seed)
    architecture = pipe.manifest.architecture
    table = compile_table(pipe.manifest.scheduler, sampler, 6)
    weights = Guidance(3.0).weights(table.rows, has_negative=False)
    shape = (architecture.latent_channels, *size)
    noise = StepNoise(NoiseSource(seed), 1, shape)
    specs = pipe.stages.step.inputs
    contexts, tokens = weights.shape[1], pipe.manifest.window
    program = Program(
        table,
        weights,
        {
            name: random.standard_normal(row_shape(specs[name], contexts, tokens)).astype(np.float32)
            for name in named(specs, "per_row")
        },
        partial(noise.draw, 0),
        np.full(table.rows, 0.5, np.float32),
    )
    sizes = {"image_latents": shape, "first_noise": shape}
    if architecture.condition_channels:
        sizes["condition"] = (architecture.condition_channels, *size)
    residents = {name: random.standard_normal(whole).astype(np.float32) for name, whole in sizes.items()}
    residents["mask"] = (random.random((1, *size)) > 0.4).astype(np.float32)
    return program, random.standard_normal(shape).astype(np.float32), residents


def check_latents(found: Images, expected: Images) -> float:
    """The relative error of latents."""
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    assert error < MAX_ERROR
    return error


def check_repeats(painter: Callable[[], Images], times: int) -> list[float]:
    """The milliseconds of requests that all give the bits of the first, which records nothing yet."""
    first = painter()
    milliseconds = []
    for _ in range(times):
        start = time.perf_counter()
        np.testing.assert_array_equal(painter(), first)
        milliseconds.append(1000 * (time.perf_counter() - start))
    return milliseconds


def count_steps(pipe: InpaintPipeline, device: Counts) -> list[tuple[int, int]]:
    """Allocations and waits so far, after each step but the last."""
    scene = load_scene()
    height, width = pipe.manifest.architecture.native_resolution
    events = pipe.stream(
        scene.script.prompts[0],
        scene.image,
        scene.mask,
        num_inference_steps=STEPS,
        height=height,
        width=width,
    )
    return [(device.allocations, device.synchronisations) for event in events if event.output is None]


def check_quiet_steps(counts: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Allocations and waits of each step: none, and at most one."""
    changes = np.diff(np.array(counts), axis=0)
    assert len(changes) > 0
    assert changes[:, 0].max() == 0
    assert changes[:, 1].max() <= 1
    return [[int(count) for count in change] for change in changes]


def check_memory(used: Callable[[], int], work: Callable[[int], object], times: int, warm_up: int) -> int:
    """The bytes by which memory in use has grown when the work was done many times."""
    for index in range(warm_up):
        work(index)
    before = used()
    for index in range(times):
        work(index)
    growth = used() - before
    assert growth < MAX_GROWTH
    return growth


def peak_memory(pipe: InpaintPipeline, used: Callable[[], int]) -> int:
    """The maximum of the bytes in use, looked at after every step and at the end of two requests."""
    scene = load_scene()
    height, width = pipe.manifest.architecture.native_resolution
    request: dict[str, Any] = {"num_inference_steps": 4, "seed": 0, "height": height, "width": width}
    arguments = scene.script.prompts[0], scene.image, scene.mask
    return max(used() for _ in range(2) for _ in pipe.stream(*arguments, **request))


def check_timings(painter: Callable[[], Timings]) -> dict[str, float]:
    """Seconds that were measured and that passed; the first are no more."""
    start = time.perf_counter()
    timings = painter()
    passed = time.perf_counter() - start
    assert timings.steps
    assert min(timings.steps) > 0
    assert timings.total <= passed * CLOCKS_DIFFER
    return {"denoise": timings.denoise, "total": timings.total, "passed": passed}


def remembered(path: Path, make: Callable[[], Images]) -> Images:
    """An array that is kept in a file, since it takes minutes to make."""
    if not path.is_file():
        with atomic_write(path) as draft, draft.open("wb") as stream:
            np.save(stream, make())
    kept: Images = np.load(path)
    return kept
