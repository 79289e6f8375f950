"""LoRAs on this machine's GPU: at load with ONNX Runtime, in plans with TensorRT and TensorRT-RTX."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu.checks import check_likeness, paint
from gpu.conftest import MAX_BATCH
from inpaintrt.backends.tensorrt_library import PlanBackend
from inpaintrt.bundle import load_manifest
from inpaintrt.errors import PlanError
from inpaintrt.lora import open_loras, read_initializers
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt_export.builds import BuildSettings, build_plans
from lora_files import save_lora

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def lora(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of rank 4 of all cross-attention layers, whatever the bundle."""
    build = load_manifest(bundle).exported["denoiser"]
    initializers = read_initializers(bundle / build.file)
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for parameter in (name for name in build.weights if ".attn2.to_" in name and name.endswith(".weight")):
        rows, columns = initializers[build.weights[parameter]].shape
        if parameter in build.transposed:
            rows, columns = columns, rows
        module = f"unet.{parameter.removesuffix('.weight')}"
        tensors[f"{module}.lora_B.weight"] = torch.randn(rows, 4, generator=generator) * 0.2
        tensors[f"{module}.lora_A.weight"] = torch.randn(4, columns, generator=generator) * columns**-0.5
    return save_lora(tmp_path_factory.mktemp("lora") / "style.safetensors", tensors)


def test_a_lora_paints_what_it_paints_on_the_cpu(
    backend: str, bundle: Path, lora: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    loras = [(lora, 0.8)]
    if backend != "onnxruntime-cuda":
        with pytest.raises(PlanError, match=r"--lora style\.safetensors:0\.8"):
            InpaintPipeline.from_bundle(copy, backend=backend, loras=loras)
        plans: PlanBackend = "tensorrt" if backend == "tensorrt" else "tensorrt-rtx"
        build_plans(copy, BuildSettings(plans, max_batch=MAX_BATCH, loras=open_loras(loras)))
    with (
        InpaintPipeline.from_bundle(copy, loras=loras) as cpu,
        InpaintPipeline.from_bundle(copy, backend=backend, loras=loras) as pipe,
        InpaintPipeline.from_bundle(copy, backend=backend) as plain,
    ):
        painted = paint(pipe)
        check_likeness(painted, paint(cpu))
        assert np.abs(painted - paint(plain)).max() > 0.1
