"""What is made of a checkpoint for older libraries."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from benchmarks.odd import CHECKPOINT
from inpaintrt_bench.workers.checkpoints import readable_checkpoint

WEIGHTS = Path("text_encoder") / "model.safetensors"


def test_the_text_encoder_gets_the_prefix_once_and_the_original_stays(tmp_path: Path) -> None:
    before = (CHECKPOINT / WEIGHTS).read_bytes()
    once = readable_checkpoint(CHECKPOINT, tmp_path / "once")
    twice = readable_checkpoint(once, tmp_path / "twice")
    original, found = load_file(CHECKPOINT / WEIGHTS), load_file(once / WEIGHTS)
    assert set(found) == {f"text_model.{name}" for name in original}
    assert all(np.array_equal(found[f"text_model.{name}"], original[name]) for name in original)
    assert set(load_file(twice / WEIGHTS)) == set(found)
    assert (CHECKPOINT / WEIGHTS).read_bytes() == before
    assert (once / "unet" / "config.json").read_bytes() == (CHECKPOINT / "unet" / "config.json").read_bytes()
