"""The recipe: autoencoder, latents, denoiser, each kept in a work folder so that a stopped run goes on."""

import copy
import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from inpaintrt_demo.autoencoder import VaeObjective, draw_pool, normalise_latents, to_tensor
from inpaintrt_demo.checkpoint import (
    Checkpoint,
    Sizes,
    build_text_encoder,
    build_unet,
    build_vae,
    save_checkpoint,
)
from inpaintrt_demo.denoiser import (
    Captioned,
    Denoiser,
    DenoiserObjective,
    LatentPool,
    encode_pool,
)
from inpaintrt_demo.tokenizer import build_tokenizer, token_ids
from inpaintrt_demo.training import Training, TrainingPlan

logger = logging.getLogger(__name__)
VAE_SEEDS, LATENT_SEEDS = 1_000_000, 2_000_000  # where the seeds of the training scenes begin


@dataclass(frozen=True)
class Recipe:
    """Every number of the training.

    The defaults are those that the committed checkpoint ended with. On its way schedules were shortened, and
    the weight of tints was added late, so a new run gives a checkpoint like it, not the same bytes.
    """

    sizes: Sizes = field(default_factory=Sizes)
    vae: TrainingPlan = field(
        default_factory=lambda: TrainingPlan(
            steps=4500, batch=16, learning_rate=1e-3, average=0.998, shards=2
        )
    )
    vae_scenes: int = 6000
    crop: int = 64
    latent_scenes: int = 7_000
    masks_per_scene: int = 2
    denoiser: TrainingPlan = field(
        default_factory=lambda: TrainingPlan(steps=6200, batch=32, learning_rate=8e-4, shards=2)
    )
    calibration: TrainingPlan = field(
        default_factory=lambda: TrainingPlan(
            steps=500, batch=32, learning_rate=3e-4, shards=2, warm_up=50, average=0.99, save_every=100
        )
    )
    seed: int = 0


def train(recipe: Recipe, work: Path, device: torch.device, workers: int) -> Checkpoint:
    """Run what is not done yet of the recipe, and return the checkpoint."""
    work.mkdir(parents=True, exist_ok=True)
    vae = train_vae(recipe, work, device, workers)
    pool = latent_pool(recipe, vae, work)
    return train_denoiser(recipe, vae, pool, work, device, workers)


def train_vae(recipe: Recipe, work: Path, device: torch.device, workers: int) -> AutoencoderKL:
    """Train the autoencoder, and normalise its latents."""
    torch.manual_seed(recipe.seed)
    vae = build_vae(recipe.sizes).to(device)
    pool = draw_pool(VAE_SEEDS, recipe.vae_scenes, recipe.sizes.image)
    training = Training(VaeObjective(vae, pool, recipe.crop, device), recipe.vae, work / "vae.pt", workers)
    averaged = training.run()
    if not isinstance(averaged, AutoencoderKL):
        raise TypeError(f"the averaged autoencoder is a {type(averaged).__name__}")
    normalise_latents(averaged, to_tensor(pool[:512]))
    return averaged


def latent_pool(recipe: Recipe, vae: AutoencoderKL, work: Path) -> LatentPool:
    """Return the encoded images, made once."""
    file = work / "latents.pt"
    if not file.exists():
        encode_pool(vae, LATENT_SEEDS, recipe.latent_scenes, recipe.masks_per_scene, recipe.sizes.image).save(
            file
        )
    return LatentPool.load(file)


def train_denoiser(
    recipe: Recipe, vae: AutoencoderKL, pool: LatentPool, work: Path, device: torch.device, workers: int
) -> Checkpoint:
    """Train UNet and text encoder."""
    torch.manual_seed(recipe.seed + 1)
    tokenizer = build_tokenizer()
    denoiser = Denoiser(build_unet(recipe.sizes), build_text_encoder(recipe.sizes, tokenizer)).to(device)
    tokens = torch.from_numpy(token_ids(tokenizer, pool.captions))
    empty = torch.from_numpy(token_ids(tokenizer, [""]))[0]
    data = Captioned(pool, tokens, empty, vae.config.scaling_factor)
    file = work / "denoiser.pt"
    trained = averaged_denoiser(
        Training(DenoiserObjective(denoiser, data, device), recipe.denoiser, file, workers)
    )
    student = copy.deepcopy(trained).requires_grad_(requires_grad=True)
    objective = DenoiserObjective(student, data, device, teacher=trained)
    file = work / "calibration.pt"
    calibrated = averaged_denoiser(Training(objective, recipe.calibration, file, workers))
    return Checkpoint(vae, calibrated.unet, calibrated.text_encoder, tokenizer)


def averaged_denoiser(training: Training) -> Denoiser:
    """Train to the end, and return the averaged denoiser."""
    averaged = training.run()
    if not isinstance(averaged, Denoiser):
        raise TypeError(f"the averaged denoiser is a {type(averaged).__name__}")
    return averaged


def train_and_save(recipe: Recipe, work: Path, output: Path, device: torch.device, workers: int) -> None:
    """Train what is not trained yet, and write the checkpoint."""
    save_checkpoint(train(recipe, work, device, workers), output)
    logger.info("checkpoint: %s", output)
