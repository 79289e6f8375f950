"""Consistency distillation: a LoRA with which the demo checkpoint paints in a few steps.

The student learns to jump from any noise level to the image that guided steps of the teacher lead to
(LCM, arXiv:2310.04378, section 4.2 and 4.3; as a LoRA, arXiv:2311.05556). Its sampler is the runtime's `lcm`.
"""

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call

from inpaintrt_demo.checkpoint import build_scheduler
from inpaintrt_demo.denoiser import Captioned, Denoiser, sample_latents
from inpaintrt_demo.recipe import Recipe, latent_pool
from inpaintrt_demo.tokenizer import token_ids
from inpaintrt_demo.training import Training, TrainingPlan

PLAN = TrainingPlan(steps=2000, batch=32, learning_rate=1e-3, shards=1, average=0.99)
SCENES = 2000
RANK = 32
TRAINING_STEPS = 1000
SOLVER_STEPS = 50  # of the teacher over all noise levels: the runtime's original_inference_steps
TIMESTEP_SCALING = 10.0  # as in the runtime's sampler
SIGMA_DATA = 0.5
GUIDANCE = 7.5  # of the teacher, learned by the student
HUBER = 1e-3


class LoraFactors(nn.Module):
    """Low-rank changes of every linear layer and convolution of a UNet; none at first.

    Args:
        unet: The UNet.
        rank: Columns of the factors; less where a layer is smaller.
    """

    def __init__(self, unet: UNet2DConditionModel, rank: int) -> None:
        super().__init__()
        self.names = [
            name for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
        ]
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        for name in self.names:
            outer, inner, *kernel = unet.get_parameter(f"{name}.weight").shape
            columns = min(rank, outer, inner)
            down = torch.empty(columns, inner, *kernel)
            nn.init.kaiming_uniform_(down, a=5**0.5)
            self.down.append(nn.Parameter(down))
            self.up.append(nn.Parameter(torch.zeros(outer, columns, *(1 for _ in kernel))))

    def changed(self, unet: UNet2DConditionModel) -> dict[str, Tensor]:
        """Return the UNet's weights with the changes, by name."""
        weights = {}
        for name, down, up in zip(self.names, self.down, self.up, strict=True):
            weight = unet.get_parameter(f"{name}.weight")
            difference = up.flatten(1) @ down.flatten(1)
            weights[f"{name}.weight"] = weight + difference.reshape(weight.shape)
        return weights

    def save(self, file: Path) -> None:
        """Write the factors with PEFT's names."""
        tensors = {}
        for name, down, up in zip(self.names, self.down, self.up, strict=True):
            tensors[f"unet.{name}.lora_A.weight"] = down.detach().clone()
            tensors[f"unet.{name}.lora_B.weight"] = up.detach().clone()
        save_file(tensors, file)


class DistillationObjective:
    """Give the same image for neighbouring noise levels of a guided path of the teacher.

    Shards must not run side by side: the student is the teacher's UNet with other weights put in its place
    for a call.
    """

    def __init__(self, teacher: Denoiser, data: Captioned, rank: int) -> None:
        self.teacher = teacher.eval().requires_grad_(requires_grad=False)
        self.factors = LoraFactors(teacher.unet, rank)
        self.data = data
        self.signal: Tensor = build_scheduler().alphas_cumprod

    @property
    def modules(self) -> nn.Module:
        """What is trained."""
        return self.factors

    def loss(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the pseudo-Huber loss of samples drawn with the generator."""
        pool, scaling = self.data.pool, self.data.scaling
        picks = torch.randint(len(pool.masked), (count,), generator=generator)
        clean = sample_latents(pool.image[picks // pool.masks_per_image], scaling, generator)
        masked = sample_latents(pool.masked[picks], scaling, generator)
        condition = torch.cat([pool.mask[picks].float(), masked], dim=1)
        stride = TRAINING_STEPS // SOLVER_STEPS
        timestep = stride * torch.randint(1, SOLVER_STEPS + 1, (count,), generator=generator) - 1
        noise = torch.randn(clean.shape, generator=generator)
        signal = self.signal_at(timestep)
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        weights = self.factors.changed(self.teacher.unet)
        with torch.no_grad():
            frozen = {name: weight.detach() for name, weight in weights.items()}
            context = self.teacher.text_encoder(self.data.tokens[picks]).last_hidden_state
            before = (timestep - stride).clamp(min=0)
            earlier = self.guided_step(noisy, condition, timestep, before, context)
            wanted = self.jump(frozen, earlier, condition, before, context)
        error = self.jump(weights, noisy, condition, timestep, context) - wanted
        return ((error.square() + HUBER**2).sqrt() - HUBER).mean()

    def signal_at(self, timestep: Tensor) -> Tensor:
        """Return alpha-bar, [n, 1, 1, 1]."""
        return self.signal[timestep][:, None, None, None]

    def guided_step(
        self, noisy: Tensor, condition: Tensor, timestep: Tensor, before: Tensor, context: Tensor
    ) -> Tensor:
        """Return what a guided DDIM step of the teacher leads to (arXiv:2310.04378, equation 17)."""
        empty = self.teacher.text_encoder(self.data.empty[None]).last_hidden_state.expand_as(context)
        without, with_caption = (
            self.predict({}, noisy, condition, timestep, prompt) for prompt in (empty, context)
        )
        noise = without + GUIDANCE * (with_caption - without)
        signal, target = self.signal_at(timestep), self.signal_at(before)
        image = (noisy - (1 - signal).sqrt() * noise) / signal.sqrt()
        return target.sqrt() * image + (1 - target).sqrt() * noise

    def jump(
        self, weights: dict[str, Tensor], noisy: Tensor, condition: Tensor, timestep: Tensor, context: Tensor
    ) -> Tensor:
        """Return the consistency function: the image that the student sees (arXiv:2310.04378, equation 9)."""
        noise = self.predict(weights, noisy, condition, timestep, context)
        signal = self.signal_at(timestep)
        image = (noisy - (1 - signal).sqrt() * noise) / signal.sqrt()
        scaled = TIMESTEP_SCALING * timestep[:, None, None, None]
        whole = scaled.square() + SIGMA_DATA**2
        return SIGMA_DATA**2 / whole * noisy + scaled / whole.sqrt() * image

    def predict(
        self, weights: dict[str, Tensor], noisy: Tensor, condition: Tensor, timestep: Tensor, context: Tensor
    ) -> Tensor:
        """Return the noise that the UNet predicts with some of its weights changed."""
        sample = torch.cat([noisy, condition], dim=1)
        predicted: Tensor = functional_call(
            self.teacher.unet, weights, (sample, timestep, context), {"return_dict": False}
        )[0]
        return predicted


def distill(
    checkpoint: Path,
    work: Path,
    output: Path,
    plan: TrainingPlan = PLAN,
    scenes: int = SCENES,
    rank: int = RANK,
) -> None:
    """Train what is not trained yet of a LoRA for a checkpoint folder, and write it."""
    work.mkdir(parents=True, exist_ok=True)
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(checkpoint, safety_checker=None)
    vae, tokenizer = pipeline.vae.eval(), pipeline.tokenizer
    recipe = Recipe(latent_scenes=scenes)
    recipe = replace(recipe, sizes=replace(recipe.sizes, image=vae.config.sample_size))
    pool = latent_pool(recipe, vae, work)
    tokens, empty = (torch.from_numpy(token_ids(tokenizer, texts)) for texts in (pool.captions, [""]))
    data = Captioned(pool, tokens, empty[0], vae.config.scaling_factor)
    torch.manual_seed(plan.seed)
    objective = DistillationObjective(Denoiser(pipeline.unet, pipeline.text_encoder), data, rank)
    averaged = Training(objective, plan, work / "distillation.pt").run()
    if not isinstance(averaged, LoraFactors):
        raise TypeError(f"the averaged factors are a {type(averaged).__name__}")
    averaged.save(output)
