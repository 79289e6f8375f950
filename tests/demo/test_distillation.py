from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from diffusers import DDIMScheduler, LCMScheduler, UNet2DConditionModel
from torch import Tensor

from inpaintrt.lora import open_loras
from inpaintrt_demo.checkpoint import Sizes, build_scheduler, build_text_encoder, build_unet, build_vae
from inpaintrt_demo.commands import demo
from inpaintrt_demo.denoiser import Captioned, Denoiser, encode_pool
from inpaintrt_demo.distillation import GUIDANCE, DistillationObjective, LoraFactors, distill
from inpaintrt_demo.painters import DiffusersPainter
from inpaintrt_demo.recipe import Recipe, train_and_save
from inpaintrt_demo.tokenizer import build_tokenizer, token_ids
from inpaintrt_demo.training import Training, TrainingPlan

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
CHECKPOINT = Path(__file__).parents[2] / "demo" / "checkpoint"
PLAN = TrainingPlan(steps=30, batch=4, learning_rate=1e-2, shards=1, warm_up=3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def objective() -> DistillationObjective:
    """With a teacher that has learned nothing, and a student that is the teacher."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    teacher = Denoiser(build_unet(SIZES), build_text_encoder(SIZES, tokenizer))
    pool = encode_pool(build_vae(SIZES).eval(), 0, scenes=2, masks=2, size=64)
    tokens = torch.from_numpy(token_ids(tokenizer, pool.captions))
    empty = torch.from_numpy(token_ids(tokenizer, [""]))[0]
    return DistillationObjective(teacher, Captioned(pool, tokens, empty, 1.0), rank=4)


def latents(seed: int, channels: int = 4) -> Tensor:
    return torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def contexts(objective: DistillationObjective) -> Tensor:
    context: Tensor = objective.teacher.text_encoder(objective.data.tokens[:2]).last_hidden_state
    return context


def test_a_student_begins_as_the_teacher(objective: DistillationObjective) -> None:
    unet = objective.teacher.unet
    changed = objective.factors.changed(unet)
    assert len(changed) > 50
    for name, weight in changed.items():
        assert torch.equal(weight, unet.get_parameter(name))


@torch.no_grad()
def test_the_teachers_step_is_a_guided_step_of_ddim(objective: DistillationObjective) -> None:
    noisy, condition, context = latents(1), latents(2, 5), contexts(objective)
    timestep, before = torch.tensor([999, 999]), torch.tensor([979, 979])
    found = objective.guided_step(noisy, condition, timestep, before, context)
    empty = objective.teacher.text_encoder(objective.data.empty[None]).last_hidden_state
    sample = torch.cat([noisy, condition], dim=1)
    without, guided = (
        objective.teacher.unet(sample, timestep, prompt).sample
        for prompt in (empty.expand_as(context), context)
    )
    scheduler = DDIMScheduler.from_config(
        build_scheduler().config, timestep_spacing="trailing", clip_sample=False
    )
    scheduler.set_timesteps(50)
    expected = scheduler.step(without + GUIDANCE * (guided - without), 999, noisy).prev_sample
    torch.testing.assert_close(found, expected)


@torch.no_grad()
@pytest.mark.parametrize("timestep", [0, 19, 499, 999])
def test_a_jump_leads_where_the_sampler_sees_the_image(
    objective: DistillationObjective, timestep: int
) -> None:
    noisy, condition, context = latents(1), latents(2, 5), contexts(objective)
    timesteps = torch.tensor([timestep, timestep])
    found = objective.jump({}, noisy, condition, timesteps, context)
    noise = objective.teacher.unet(torch.cat([noisy, condition], dim=1), timesteps, context).sample
    scheduler = LCMScheduler.from_config(build_scheduler().config)
    scheduler.set_timesteps(timesteps=[timestep])
    torch.testing.assert_close(found, scheduler.step(noise, timestep, noisy).denoised)
    if timestep == 0:
        assert torch.equal(found, noisy)


@torch.no_grad()
def mean_loss(objective: DistillationObjective) -> float:
    """Of the same samples whenever it is asked for."""
    return float(objective.loss(64, torch.Generator().manual_seed(9)))


def test_distillation_lowers_the_loss(objective: DistillationObjective, tmp_path: Path) -> None:
    training = Training(objective, PLAN, tmp_path / "distillation.pt")
    before = [weight.clone() for weight in objective.teacher.parameters()]
    losses = [mean_loss(objective)]
    training.run()
    losses.append(mean_loss(objective))
    assert losses[1] < 0.92 * losses[0]
    assert all(map(torch.equal, before, objective.teacher.parameters()))


def changed_by_the_runtime(file: Path, unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """The weights that the runtime makes of a LoRA's file."""
    (lora,) = open_loras([file])
    weights = {name: weight.detach().numpy() for name, weight in unet.named_parameters()}
    changes = lora.changes("denoiser", {name.rpartition(".")[0] for name in weights})
    return {name: torch.from_numpy(change.apply(weights[name], 1.0)) for name, change in changes.items()}


def test_the_runtime_reads_the_file(objective: DistillationObjective, tmp_path: Path) -> None:
    for up in objective.factors.up:
        torch.nn.init.normal_(up)
    objective.factors.save(tmp_path / "lora.safetensors")
    unet = objective.teacher.unet
    expected = objective.factors.changed(unet)
    found = changed_by_the_runtime(tmp_path / "lora.safetensors", unet)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight.detach(), atol=1e-5, rtol=1e-4)


def test_a_checkpoint_is_distilled_and_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    plan = TrainingPlan(steps=3, batch=4, learning_rate=1e-3, shards=1, warm_up=1)
    recipe = Recipe(
        sizes=SIZES,
        vae=plan,
        vae_scenes=8,
        crop=32,
        latent_scenes=4,
        masks_per_scene=1,
        denoiser=plan,
        calibration=plan,
    )
    train_and_save(recipe, tmp_path / "training", tmp_path / "checkpoint", CPU, 1)
    files = [tmp_path / name for name in ("first.safetensors", "second.safetensors")]
    for file in files:
        distill(tmp_path / "checkpoint", tmp_path / "work", file, plan, scenes=4, rank=2)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_few_steps_are_measured_with_and_without_a_lora(tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    LoraFactors(DiffusersPainter.from_checkpoint(CHECKPOINT).pipeline.unet, 1).save(file)
    words = ["few-steps", "demo", "--cases", "2", "--steps", "2", "--lora", str(file)]
    result = CliRunner().invoke(demo, words)
    assert result.exit_code == 0, result.output
    names = [line.partition(": ")[0] for line in result.output.splitlines()]
    assert names == [
        "20 steps",
        "2 steps",
        "2 steps, ddim, trailing",
        "2 steps, ddim, trailing, without guidance",
        "2 steps, lora.safetensors, without guidance",
    ]
