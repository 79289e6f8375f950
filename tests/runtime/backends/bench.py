"""Plans of a bundle on the stand-in for TensorRT, and the CPU engines that say what they should compute."""

from pathlib import Path
from typing import Any, cast

import numpy as np

from inpaintrt.backends.cuda import CudaDevice
from inpaintrt.backends.device import GrowingMemory, Staging
from inpaintrt.backends.device_engine import DeviceEngine
from inpaintrt.backends.kernel_cache import KernelCache
from inpaintrt.backends.onnxruntime import open_engine
from inpaintrt.backends.tensorrt import PlanHost, PlanNetwork
from inpaintrt.backends.tensorrt_library import PlanLibrary
from inpaintrt.bundle import Build, Manifest, load_manifest
from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt_export.builds.profiles import make_profiles
from inpaintrt_export.builds.settings import BuildSettings
from runtime.backends.host_device import HostDevice
from runtime.backends.stand_in import StandInRuntime, stand_in_library

__all__ = ["SETTINGS", "Bench"]

SETTINGS = BuildSettings("tensorrt", max_batch=2)


def _plan(manifest: Manifest, name: str, settings: BuildSettings) -> Build:
    exported = manifest.exported[name]
    return Build(
        component=name,
        backend="tensorrt",
        library="11.4",
        precision="fp32",
        targets=("sm89",),
        profiles=make_profiles(exported, manifest.architecture, 77, settings),
        inputs=exported.inputs,
        outputs=exported.outputs,
        network_sha256="",
        key=name,
        files=(f"{name}.plan",),
    )


class Bench:
    """A bundle's components as plans of the stand-in."""

    def __init__(
        self,
        bundle: Path,
        folder: Path,
        *,
        low_vram: bool = False,
        runtime: type[StandInRuntime] = StandInRuntime,
        library: PlanLibrary | None = None,
        settings: BuildSettings = SETTINGS,
    ) -> None:
        self.bundle, self.manifest = bundle, load_manifest(bundle)
        self.device = HostDevice()
        library = stand_in_library() if library is None else library
        plans = {name: _plan(self.manifest, name, settings) for name in self.manifest.exported}
        files = {name: bundle / part.file for name, part in self.manifest.exported.items()}
        contents = {name.encode(): (plan, files[name]) for name, plan in plans.items()}
        self.runtime = runtime(self.device, contents, library)
        device = cast("CudaDevice", self.device)
        self.host = PlanHost(library, cast("Any", self.runtime), device, GrowingMemory(device), low_vram)
        self.networks = {name: self._network(plan, folder) for name, plan in plans.items()}
        staging = Staging(self.device)
        self.engines = {
            name: DeviceEngine(network, self.device, staging) for name, network in self.networks.items()
        }

    def _network(self, plan: Build, folder: Path) -> PlanNetwork:
        path = folder / "bundle" / "plans" / plan.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plan.component.encode())
        return PlanNetwork(plan, path, self.host, KernelCache(plan.key, "nowhere"))

    def pipeline(self, **options: Any) -> InpaintPipeline:
        """A pipeline on the plans."""
        on_cpu = load_bundle(self.bundle)
        return InpaintPipeline(LoadedBundle(on_cpu.manifest, self.engines, on_cpu.tokenizers), **options)

    def inputs(self, name: str) -> dict[str, Any]:
        """Inputs that are smaller than any profile along the axes of requests and rows."""
        random = np.random.default_rng(0)
        sizes = {"batch": 1, "slots": 1, "rows": 2, "tokens": 77}
        sizes |= dict.fromkeys(("height", "width"), 64 if name == "vae_encoder" else 8)
        arrays = {}
        for tensor, spec in self.manifest.exported[name].inputs.items():
            shape = [axis if isinstance(axis, int) else sizes[axis] for axis in spec.shape]
            whole = spec.dtype == "int64"
            arrays[tensor] = (random.random(shape) * (0 if whole else 1)).astype(spec.dtype)
        return arrays

    def expected(self, name: str) -> dict[str, Any]:
        engine = open_engine(self.bundle, self.manifest.exported[name], {})
        return engine.run(self.inputs(name))
