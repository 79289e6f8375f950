"""The commands of the demo checkpoint: train, evaluate, and draw the demo's images."""

import logging
from pathlib import Path

import click

__all__ = ["demo"]

_PATH = click.Path(path_type=Path)

_work_option = click.option(
    "--work", type=_PATH, required=True, help="Folder for what a stopped training goes on from."
)
_cases_option = click.option(
    "--cases", type=click.IntRange(min=1), default=50, show_default=True, help="How many unseen scenes."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def demo() -> None:
    """Train and evaluate the demo checkpoint."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


@demo.command()
@click.option("--output", "-o", type=_PATH, required=True, help="Folder of the checkpoint to write.")
@_work_option
@click.option("--device", default="cpu", show_default=True, help="Where to train: cpu, cuda, cuda:1.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Shards of a batch that run at the same time.",
)
def train(output: Path, work: Path, device: str, workers: int) -> None:
    """Train the demo checkpoint on drawn images, or go on with a stopped training."""
    import torch

    from inpaintrt_demo.recipe import Recipe, train_and_save

    torch.set_num_threads(1)  # the shards are the threads
    train_and_save(Recipe(), work, output, torch.device(device), workers)


@demo.command("train-classifier")
@click.argument("checkpoint", type=_PATH)
@_work_option
def train_classifier(checkpoint: Path, work: Path) -> None:
    """Train the classifier that says which object an image holds, and put it into the package.

    Some of its examples go through the autoencoder of CHECKPOINT.
    """
    import torch

    from inpaintrt_demo.classifier import save_classifier, train_classifier
    from inpaintrt_demo.painters import load_vae

    torch.set_num_threads(1)  # small operations gain nothing from more
    save_classifier(train_classifier(load_vae(checkpoint), work))


@demo.command()
@click.argument("source", type=_PATH)
@click.option("--report", type=_PATH, required=True, help="File to write the measurements to, as JSON.")
@click.option("--checkpoint", type=_PATH, help="Checkpoint whose autoencoder is measured beside a bundle.")
@_cases_option
def evaluate(source: Path, report: Path, checkpoint: Path | None, cases: int) -> None:
    """Measure whether masked places become what prompts say.

    SOURCE is a checkpoint's folder, which diffusers runs, or a bundle, which the runtime runs.
    """
    from inpaintrt_demo.classifier import load_classifier
    from inpaintrt_demo.evaluation import evaluate, write_report
    from inpaintrt_demo.painters import load_painter, load_vae

    painter = load_painter(source)
    folder = source if checkpoint is None and (source / "vae").is_dir() else checkpoint
    vae = None if folder is None else load_vae(folder)
    command = f"python -m inpaintrt_demo evaluate {source} --report {report} --cases {cases}"
    if checkpoint is not None:
        command += f" --checkpoint {checkpoint}"
    write_report(evaluate(painter, load_classifier(), vae, cases, command), report)


@demo.command()
@click.argument("checkpoint", type=_PATH)
@click.option("--output", "-o", type=_PATH, required=True, help="LoRA to write, as .safetensors.")
@_work_option
def distill(checkpoint: Path, output: Path, work: Path) -> None:
    """Train a LoRA with which CHECKPOINT paints in a few steps, or go on with a stopped training."""
    import torch

    from inpaintrt_demo.distillation import distill

    torch.set_num_threads(1)  # small operations gain nothing from more
    distill(checkpoint, work, output)


@demo.command("few-steps")
@click.argument("bundle")
@click.option("--lora", type=_PATH, help="A LoRA that `distill` wrote.")
@click.option("--steps", type=click.IntRange(min=1), default=4, show_default=True, help="How few.")
@_cases_option
def few_steps(bundle: str, lora: Path | None, steps: int, cases: int) -> None:
    """Measure in how many masked places BUNDLE paints what prompts say in a few steps."""
    from inpaintrt_demo.evaluation import few_steps

    for name, share in few_steps(bundle, lora, steps, cases).items():
        click.echo(f"{name}: {share:.2f}")


@demo.command()
@click.argument("source", type=_PATH)
@click.option("--output", "-o", type=_PATH, required=True, help="PNG file to write.")
@_cases_option
@click.option("--guidance", default=7.5, show_default=True, help="Guidance scale.")
def samples(source: Path, output: Path, cases: int, guidance: float) -> None:
    """Draw a sheet of masked images and what SOURCE, a checkpoint or a bundle, makes of them."""
    from inpaintrt_demo.evaluation import sample_sheet
    from inpaintrt_demo.painters import load_painter

    sample_sheet(load_painter(source), cases, guidance).save(output)


@demo.command()
@click.option(
    "--output", "-o", type=_PATH, required=True, help="Folder for input.png, mask.png and prompts.json."
)
def assets(output: Path) -> None:
    """Draw the demo's image and mask, and write its prompts."""
    from inpaintrt_demo.cases import write_assets

    write_assets(output)
