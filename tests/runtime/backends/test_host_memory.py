"""Large runs give their memory back, and variants take less of it."""

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from inpaintrt.backends import UsesHostMemory, open_engines
from inpaintrt.backends.onnxruntime import OnnxRuntimeEngine
from inpaintrt.bundle import Activations, TensorSpec, choose_builds, load_manifest
from inpaintrt.errors import EngineRunError
from inpaintrt.store import find_bundle
from runtime.networks import plain_build, plain_engine

TIMESTEP = TensorSpec(dtype="float32", shape=("batch",))

# Decodes with the demo, and tells memory before, at the peak and afterwards, in MiB.
MEASURE = """
import ctypes, sys
from pathlib import Path
import numpy as np
from inpaintrt.backends import open_engines
from inpaintrt.bundle import load_manifest
from inpaintrt.store import find_bundle

ctypes.CDLL(None).mallopt(-3, 2**20)
folder = find_bundle("demo")
variants = sys.argv[1] == "variants"
engine = open_engines("onnxruntime", folder, load_manifest(folder), {"variants": variants})["vae_decoder"]

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) // 1024

engine.run({"latent_sample": np.zeros((1, 4, 16, 16), np.float32)})
before = status("VmRSS")
latents = np.zeros((1, 4, 112, 112), np.float32)
engine.run({"latent_sample": latents})
print(before, status("VmHWM"), status("VmRSS"))
"""


def _inputs(side: int = 6) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "sample": random.standard_normal((2, 9, side, side)).astype(np.float32),
        "timestep": np.array([1, 2], np.float32),
        "encoder_hidden_states": random.standard_normal((2, 7, 12)).astype(np.float32),
    }


def _engine(folder: Path, kept_positions: int | None) -> OnnxRuntimeEngine:
    plain_engine(folder).close()
    return OnnxRuntimeEngine(folder / "unet.onnx", plain_build(TIMESTEP), kept_positions=kept_positions)


@pytest.mark.parametrize("kept", [71, 72], ids=["given back", "kept"])
def test_a_large_run_gives_what_a_small_one_gives(tmp_path: Path, kept: int) -> None:
    expected = _engine(tmp_path, None).run(_inputs())["out_sample"]
    for inputs in (_inputs(), {name: array[::-1][::-1] for name, array in _inputs().items()}):
        np.testing.assert_array_equal(_engine(tmp_path, kept).run(inputs)["out_sample"], expected)


def test_outputs_of_large_runs_belong_to_the_caller(tmp_path: Path) -> None:
    engine = _engine(tmp_path, 0)
    first = engine.run(_inputs())["out_sample"]
    copy = first.copy()
    engine.run({**_inputs(), "timestep": np.array([500, 700], np.float32)})
    np.testing.assert_array_equal(first, copy)


def test_a_failure_of_a_large_run_has_a_name(tmp_path: Path) -> None:
    plain_engine(tmp_path).close()
    spec = TensorSpec(dtype="float32", shape=("batch", 5, "height", "width"))
    wrong = msgspec.structs.replace(plain_build(TIMESTEP), outputs={"out_sample": spec})
    engine = OnnxRuntimeEngine(tmp_path / "unet.onnx", wrong, kept_positions=0)
    with pytest.raises(EngineRunError, match="ONNX Runtime"):
        engine.run(_inputs())


def test_outputs_whose_shape_cannot_be_known_are_run_as_usual(tmp_path: Path) -> None:
    plain_engine(tmp_path).close()
    component = plain_build(TIMESTEP)
    spec = TensorSpec(dtype="float32", shape=("batch", 4, "Conv_12_dim_2", "Conv_12_dim_3"))
    imported = msgspec.structs.replace(component, outputs={"out_sample": spec})
    engine = OnnxRuntimeEngine(tmp_path / "unet.onnx", imported, kept_positions=0)
    expected = _engine(tmp_path, None).run(_inputs())["out_sample"]
    np.testing.assert_array_equal(engine.run(_inputs())["out_sample"], expected)


def test_an_engine_tells_what_its_manifest_says_of_memory(tmp_path: Path) -> None:
    plain_engine(tmp_path).close()
    measured = Activations(per_position=3.5, per_pair=0.25)
    build = msgspec.structs.replace(plain_build(TIMESTEP), activations=measured)
    engine = OnnxRuntimeEngine(tmp_path / "unet.onnx", build)
    assert isinstance(engine, UsesHostMemory)
    assert engine.activations == measured
    assert measured.total(2, 10) == 2 * (35 + 25)


def test_the_demo_runs_in_its_variants_for_cpus() -> None:
    folder = find_bundle("demo")
    manifest = load_manifest(folder)
    chosen = choose_builds(manifest, "onnxruntime")
    assert {name for name, network in chosen.items() if network.file.endswith("onnxruntime.onnx")} == {
        "vae_encoder",
        "denoiser",
        "vae_decoder",
    }
    engines = open_engines("onnxruntime", folder, manifest, {"threads": 1})
    own = open_engines("onnxruntime", folder, manifest, {"threads": 1, "variants": False})
    latents = np.random.default_rng(0).standard_normal((1, 4, 16, 16)).astype(np.float32)
    mine, theirs = (some["vae_decoder"].run({"latent_sample": latents})["sample"] for some in (engines, own))
    np.testing.assert_allclose(mine, theirs, atol=1e-4)
    assert not np.array_equal(mine, theirs)  # they are not the same network


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_variants_take_less_memory_and_give_it_back() -> None:
    """The demo's decoder at 896 x 896: attention as matrices alone takes several hundred MiB."""
    taken = {}
    for form in ("variants", "own"):
        result = subprocess.run(
            [sys.executable, "-c", MEASURE, form], capture_output=True, text=True, check=True
        )
        before, peak, after = map(int, result.stdout.split())
        taken[form] = peak - before
        assert after - before < 64
    assert taken["own"] > 2 * taken["variants"]
