from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline
from PIL import Image
from torch import Tensor

from inpaintrt_demo.autoencoder import (
    VaeObjective,
    draw_pool,
    encode_moments,
    normalise_latents,
    reconstruction_loss,
    to_tensor,
)
from inpaintrt_demo.cases import evaluation_cases
from inpaintrt_demo.checkpoint import Sizes, build_scheduler, build_text_encoder, build_unet, build_vae
from inpaintrt_demo.denoiser import (
    CALIBRATION,
    Captioned,
    Denoiser,
    DenoiserObjective,
    LatentPool,
    encode_pool,
    snr_weight,
)
from inpaintrt_demo.masks import random_masked
from inpaintrt_demo.painters import DiffusersPainter, Job
from inpaintrt_demo.recipe import Recipe, latent_pool, train_and_save, train_denoiser, train_vae
from inpaintrt_demo.tokenizer import build_tokenizer, token_ids
from inpaintrt_demo.training import Training, TrainingPlan
from inpaintrt_demo.world import draw, random_scene

SIZES = Sizes(
    image=64,
    vae_channels=(8, 8, 16, 16),
    unet_channels=(16, 32),
    heads=2,
    text_width=16,
    text_layers=1,
    norm_groups=8,
)
CPU = torch.device("cpu")
PLAN = TrainingPlan(steps=30, batch=4, learning_rate=3e-3, shards=2, warm_up=3, save_every=7)


def miniature_recipe() -> Recipe:
    """A few steps of everything on images of 64 x 64 pixels."""
    plan = TrainingPlan(steps=4, batch=4, learning_rate=1e-3, shards=2, warm_up=1)
    return Recipe(
        sizes=SIZES,
        vae=plan,
        vae_scenes=8,
        crop=32,
        latent_scenes=6,
        masks_per_scene=2,
        denoiser=plan,
        calibration=plan,
    )


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def vae_training(file: Path, plan: TrainingPlan = PLAN) -> Training:
    torch.manual_seed(0)
    return Training(VaeObjective(build_vae(SIZES), draw_pool(0, 8, 64), 32, CPU), plan, file, workers=2)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    training = vae_training(tmp_path / "vae.pt")
    training.run()
    assert len(training.losses) == 30
    assert np.mean(training.losses[-5:]) < 0.7 * np.mean(training.losses[:3])


def test_a_resumed_training_ends_bit_for_bit_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = vae_training(tmp_path / "whole.pt")
    whole.run(10)
    vae_training(tmp_path / "halves.pt").run(6)
    resumed = vae_training(tmp_path / "halves.pt")
    assert resumed.step == 6
    resumed.run(10)
    assert same_weights(whole.objective.modules, resumed.objective.modules)
    assert same_weights(whole.averaged, resumed.averaged)


def test_a_training_goes_on_from_the_last_saved_step(tmp_path: Path) -> None:
    training = vae_training(tmp_path / "vae.pt", replace(PLAN, steps=9))
    training.run()
    assert vae_training(tmp_path / "vae.pt").step == 9
    assert [path.name for path in tmp_path.iterdir()] == ["vae.pt"]


def test_the_learning_rate_rises_and_falls() -> None:
    plan = TrainingPlan(steps=100, batch=1, learning_rate=1.0, warm_up=10)
    rates = [plan.learning_rate_at(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] == pytest.approx(0.02)


def test_a_perfect_reconstruction_costs_nothing_and_a_wrong_tint_more_than_a_wrong_brightness() -> None:
    image = torch.zeros(1, 3, 8, 8)
    tinted = image.clone()
    tinted[:, 0] = 0.3
    assert reconstruction_loss(image, image) == 0
    assert reconstruction_loss(tinted, image) > reconstruction_loss(image + 0.1, image)


def random_vae() -> AutoencoderKL:
    torch.manual_seed(1)
    return build_vae(SIZES).eval()


def drawn_images(count: int) -> Tensor:
    return to_tensor(draw_pool(0, count, 64))


def test_normalised_latents_are_centred_with_unit_variance_and_decode_as_before() -> None:
    vae, images = random_vae(), drawn_images(12)
    with torch.no_grad():
        before = vae.decode(vae.encode(images).latent_dist.mode()).sample
        normalise_latents(vae, images)
        latents = vae.encode(images).latent_dist.mode()
        after = vae.decode(latents).sample
    scaled = latents * vae.config.scaling_factor
    assert scaled.mean(dim=(0, 2, 3)).abs().max() < 0.05
    assert scaled.std(dim=(0, 2, 3)).sub(1).abs().max() < 0.05
    assert (before - after).abs().max() < 1e-3


def test_the_pool_holds_what_the_pipeline_would_feed() -> None:
    vae = random_vae()
    pool = encode_pool(vae, 40, scenes=3, masks=2, size=64)
    assert (len(pool.image), len(pool.masked), len(pool.mask), len(pool.captions)) == (3, 6, 6, 6)
    assert pool.masks_per_image == 2
    rng = np.random.default_rng((41, 1))
    scene = random_scene(41)
    masked = [random_masked(rng, scene, 64) for _ in range(2)][1]
    hole = torch.from_numpy(masked.mask)[None, None].float()
    image = to_tensor(np.asarray(draw(scene, 64))[None])
    assert pool.captions[3] == masked.caption
    assert torch.equal(pool.mask[3:4].float(), torch.nn.functional.interpolate(hole, size=(8, 8)))
    expected = encode_moments(vae, image * (hole < 0.5))
    torch.testing.assert_close(pool.masked[3:4].float(), expected.float(), atol=0.02, rtol=0.02)


def test_a_pool_is_read_as_it_was_written(tmp_path: Path) -> None:
    pool = encode_pool(random_vae(), 0, scenes=2, masks=1, size=64)
    pool.save(tmp_path / "pool.pt")
    read = LatentPool.load(tmp_path / "pool.pt")
    assert torch.equal(read.masked, pool.masked)
    assert read.captions == pool.captions


def test_weights_limit_the_signal_to_noise_ratio() -> None:
    signal = torch.tensor([0.999, 0.5, 0.01])
    expected = [5 / (0.999 / 0.001), 1.0, 1.0]
    assert snr_weight(signal).tolist() == pytest.approx(expected, rel=1e-3)


def test_the_denoiser_learns(tmp_path: Path) -> None:
    plan = TrainingPlan(50, 8, 3e-3, shards=2, warm_up=5)
    none = TrainingPlan(0, 8, 3e-3)
    recipe = replace(miniature_recipe(), denoiser=plan, calibration=none)
    untrained_recipe = replace(recipe, denoiser=none)
    vae = train_vae(recipe, tmp_path, CPU, 2)
    pool = latent_pool(recipe, vae, tmp_path)
    torch.manual_seed(0)
    trained = train_denoiser(recipe, vae, pool, tmp_path, CPU, 2)
    untrained = train_denoiser(untrained_recipe, vae, pool, tmp_path / "none", CPU, 2)
    sample, timestep = torch.randn(4, 9, 8, 8), torch.full((4,), 999)
    context = torch.zeros(4, 77, 16)
    with torch.no_grad():
        noise = sample[:, :4]
        errors = [
            (checkpoint.unet(sample, timestep, context).sample - noise).square().mean().item()
            for checkpoint in (trained, untrained)
        ]
    assert errors[0] < 0.9 * errors[1]


def test_a_teacher_is_copied_with_its_captions_effect_reduced() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    teacher = Denoiser(build_unet(SIZES), build_text_encoder(SIZES, tokenizer)).eval()
    ids = torch.from_numpy(token_ids(tokenizer, ["a red balloon", "a tree"]))
    empty = torch.from_numpy(token_ids(tokenizer, [""]))[0]
    pool = encode_pool(random_vae(), 0, scenes=1, masks=2, size=64)
    objective = DenoiserObjective(teacher, Captioned(pool, ids, empty, 1.0), CPU, teacher=teacher)
    inputs = torch.randn(2, 9, 8, 8), torch.full((2,), 500)
    without, with_captions = (
        objective.run(teacher, *inputs, tokens).detach() for tokens in (empty.expand(2, -1), ids)
    )
    reduced = objective.calibrated(teacher, *inputs, ids)
    torch.testing.assert_close(without + CALIBRATION * (reduced - without), with_captions)
    torch.testing.assert_close(objective.calibrated(teacher, *inputs, empty.expand(2, -1)), without)


def test_the_recipe_writes_a_checkpoint_that_diffusers_loads_and_runs(tmp_path: Path) -> None:
    train_and_save(miniature_recipe(), tmp_path / "work", tmp_path / "checkpoint", CPU, 1)
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(tmp_path / "checkpoint", safety_checker=None)
    assert pipeline.unet.config.in_channels == 9
    assert pipeline.scheduler.config["steps_offset"] == 1
    names = {path.name for path in (tmp_path / "checkpoint" / "tokenizer").iterdir()}
    assert {"tokenizer.json", "vocab.json", "merges.txt"} <= names
    case = evaluation_cases(1, 64)[0]
    painter = DiffusersPainter(pipeline)
    jobs = [Job(case.prompt, "", case.image, case.mask, seed) for seed in (0, 1)]
    first, second = painter.paint(jobs, 2.0, 2)
    kept = np.asarray(case.mask) == 0
    assert (np.asarray(first)[kept] == np.asarray(case.image)[kept]).all()
    assert first.tobytes() != second.tobytes()


def test_the_noise_schedule_is_that_of_stable_diffusion() -> None:
    config = build_scheduler().config
    assert (config["beta_start"], config["beta_end"], config["beta_schedule"]) == (
        0.00085,
        0.012,
        "scaled_linear",
    )
    assert (config["steps_offset"], config["set_alpha_to_one"], config["skip_prk_steps"]) == (1, False, True)
    assert config["prediction_type"] == "epsilon"


def test_images_become_tensors_between_minus_one_and_one() -> None:
    image = np.asarray(Image.new("RGB", (8, 8), (0, 255, 128)))
    tensor = to_tensor(image[None])
    assert tensor[0, :, 0, 0].tolist() == pytest.approx([-1, 1, 128 / 127.5 - 1], abs=1e-6)
