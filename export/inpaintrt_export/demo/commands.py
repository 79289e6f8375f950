"""The commands of the demo checkpoint: train, evaluate, and draw the demo's pictures."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Train and evaluate the demo checkpoint.")


@app.callback()
def log_progress() -> None:
    """Train and evaluate the demo checkpoint."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


@app.command()
def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the checkpoint to write.")],
    work: Annotated[Path, typer.Option(help="Folder for what a stopped training goes on from.")],
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, cuda:1.")] = "cpu",
    workers: Annotated[int, typer.Option(min=1, help="Shards of a batch that run at the same time.")] = 2,
) -> None:
    """Train the demo checkpoint on drawn pictures, or go on with a stopped training."""
    import torch

    from inpaintrt_export.demo.recipe import Recipe, train_and_save

    torch.set_num_threads(1)  # the shards are the threads
    train_and_save(Recipe(), work, output, torch.device(device), workers)


@app.command("train-judge")
def train_judge(
    checkpoint: Annotated[
        Path, typer.Argument(help="Checkpoint whose autoencoder half of the examples go through.")
    ],
    work: Annotated[Path, typer.Option(help="Folder for what a stopped training goes on from.")],
) -> None:
    """Train the judge that says which object a picture holds, and put it into the package."""
    from inpaintrt_export.demo.judge import save_judge
    from inpaintrt_export.demo.judge_training import train_judge
    from inpaintrt_export.demo.painters import load_vae

    save_judge(train_judge(load_vae(checkpoint), work))


@app.command()
def evaluate(
    source: Annotated[
        Path, typer.Argument(help="Checkpoint folder (run by diffusers) or bundle (run by the runtime).")
    ],
    report: Annotated[Path, typer.Option(help="File to write the measurements to, as JSON.")],
    cases: Annotated[int, typer.Option(min=1, help="How many unseen scenes.")] = 50,
) -> None:
    """Measure whether masked places become what prompts say."""
    from inpaintrt_export.demo.evaluation import evaluate, write_report
    from inpaintrt_export.demo.judge import load_judge
    from inpaintrt_export.demo.painters import load_painter, load_vae

    painter = load_painter(source)
    vae = load_vae(source) if (source / "vae").is_dir() else None
    command = " ".join(["inpaintrt demo-checkpoint evaluate", str(source), "--report", str(report)])
    write_report(evaluate(painter, load_judge(), vae, cases, command), report)


@app.command()
def samples(
    source: Annotated[Path, typer.Argument(help="Checkpoint folder or bundle.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")],
    cases: Annotated[int, typer.Option(min=1, help="How many unseen scenes.")] = 24,
    guidance: Annotated[float, typer.Option(help="Guidance scale.")] = 7.5,
) -> None:
    """Draw a sheet of masked pictures and what became of them."""
    from inpaintrt_export.demo.painters import load_painter
    from inpaintrt_export.demo.sheets import sample_sheet

    sample_sheet(load_painter(source), cases, guidance).save(output)


@app.command("demo-assets")
def demo_assets(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for input.png, mask.png and prompts.json.")
    ],
) -> None:
    """Draw the demo's picture and mask, and write its prompts."""
    from inpaintrt_export.demo.assets import write_assets

    write_assets(output)


def main() -> None:
    """Run the commands by themselves, without the rest of the command line."""
    sys.exit(app(standalone_mode=True))
