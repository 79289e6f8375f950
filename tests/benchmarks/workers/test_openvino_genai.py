"""openvino-genai in the worker: on converted networks it paints what diffusers paints from the same seed."""

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import openvino
import pytest
import torch
from openvino_tokenizers import convert_tokenizer
from transformers import AutoTokenizer, CLIPTextModel

from benchmarks.odd import CHECKPOINT
from inpaintrt_bench.report.image_comparison import LIMITS, compare_images, why_wrong
from inpaintrt_bench.report.schema import STAGES
from inpaintrt_bench.runners.sources import make_case
from inpaintrt_bench.workers import torch_pipeline
from inpaintrt_bench.workers.messages import Source
from inpaintrt_bench.workers.openvino_genai import GenaiRunner, make_runner

SIDE = 96

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


class Wrapped(torch.nn.Module):
    """A part of a model as a function of one tensor."""

    def __init__(self, model: torch.nn.Module, call: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.model, self.call = model, call

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.call(self.model, given)


def networks() -> dict[str, tuple[torch.nn.Module, dict[str, torch.Tensor], str]]:
    """Each component with inputs to trace it with and the name of its output, as optimum-intel has them."""
    text = CLIPTextModel.from_pretrained(CHECKPOINT / "text_encoder", attn_implementation="eager")
    unet = diffusers.UNet2DConditionModel.from_pretrained(CHECKPOINT / "unet")
    vae = diffusers.AutoencoderKL.from_pretrained(CHECKPOINT / "vae")
    sample = {"sample": torch.zeros(2, 9, 8, 8), "timestep": torch.tensor([1])}
    context = {"encoder_hidden_states": torch.zeros(2, 77, text.config.hidden_size)}
    latents, image, tokens = torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 64, 64), torch.zeros(1, 77).long()
    return {
        "text_encoder": (Wrapped(text, lambda m, x: m(x)[0]), {"given": tokens}, "last_hidden_state"),
        "unet": (unet, {**sample, **context}, "out_sample"),
        "vae_encoder": (
            Wrapped(vae, lambda m, x: m.encode(x).latent_dist.parameters),
            {"given": image},
            "latent_parameters",
        ),
        "vae_decoder": (Wrapped(vae, lambda m, x: m.decode(x).sample), {"given": latents}, "sample"),
    }


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worker's folder with the demo's checkpoint, converted into the layout of optimum-intel."""
    folder = tmp_path_factory.mktemp("work")
    converted = folder / "openvino"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that convert
        for name, (module, inputs, output) in networks().items():
            model = openvino.convert_model(module.eval(), example_input=inputs)
            model.output(0).get_tensor().set_names({output})
            openvino.save_model(model, converted / name / "openvino_model.xml", compress_to_fp16=False)
            config = CHECKPOINT / name.partition("_")[0] if name.startswith("vae") else CHECKPOINT / name
            shutil.copyfile(config / "config.json", converted / name / "config.json")
        tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT / "tokenizer")
        for model, name in zip(convert_tokenizer(tokenizer, with_detokenizer=True), ("", "de"), strict=True):
            openvino.save_model(model, converted / "tokenizer" / f"openvino_{name}tokenizer.xml")
    shutil.copytree(CHECKPOINT / "scheduler", converted / "scheduler")
    shutil.copyfile(CHECKPOINT / "model_index.json", converted / "model_index.json")
    return folder


def started(work: Path, *, precision: str | None = "f32", fixed_shapes: bool = False) -> GenaiRunner:
    runner = make_runner()
    options = {"precision": precision, "fixed_shapes": fixed_shapes}
    runner.start(Source(checkpoint=None, bundle=None, threads=1, work=str(work), options=options))
    return runner


def reference() -> torch_pipeline.TorchRunner:
    runner = torch_pipeline.make_runner()
    options = {"device": "cpu", "dtype": "float32"}
    runner.start(Source(checkpoint=str(CHECKPOINT), bundle=None, threads=1, work="", options=options))
    return runner


@pytest.mark.parametrize("fixed_shapes", [False, True], ids=["any shape", "fixed shapes"])
def test_images_are_diffusers_own(tmp_path: Path, work: Path, *, fixed_shapes: bool) -> None:
    runner, theirs = started(work, fixed_shapes=fixed_shapes), reference()
    several = 1 if fixed_shapes else 2  # compiled for a size, openvino-genai paints no more than one
    for sampler, batch in ((None, 1), ("ddim", several), ("euler", 1)):
        case = make_case(tmp_path, width=SIDE, height=SIDE, steps=3, batch=batch, sampler=sampler, seed=7)
        outcome = runner.run(case)
        expected = theirs.run(case).images
        assert why_wrong(compare_images(outcome.images, expected, "diffusers", LIMITS["float32"])) is None
        assert set(outcome.stages) < set(STAGES)
        assert 0 < outcome.stages["denoise"] == sum(outcome.steps) < outcome.total
        assert "computes in f32" in outcome.notes


def test_what_openvino_computes_in_by_itself_is_noted(tmp_path: Path, work: Path) -> None:
    outcome = started(work, precision=None).run(make_case(tmp_path, width=64, height=64, steps=1))
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert f"computes in {'bf16' if 'BF16' in capabilities else 'f32'}" in outcome.notes


@pytest.mark.parametrize(("side", "left"), [(2, r"\[\(1, 4, 2, 2\)\]"), (8, r"\[\]")])
def test_noise_that_does_not_fit_or_does_not_suffice_is_an_error(
    tmp_path: Path, work: Path, side: int, left: str
) -> None:
    case = make_case(tmp_path, width=64, height=64, steps=1)
    other = tmp_path / "other.npz"
    np.savez(other, np.zeros((1, 4, side, side), np.float32))
    with pytest.raises(ValueError, match=rf"\(1, 4, 8, 8\) was asked for; what is left is {left}"):
        started(work).run(replace(case, noise=str(other)))
