"""Does half precision suit a bundle's networks?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import onnx_ir as ir

from inpaintrt.bundle import Conversion, load_manifest, network_digest, save_manifest
from inpaintrt.errors import ParityError
from inpaintrt_export.conversion.files import HalfNetworks, save_model
from inpaintrt_export.conversion.networks import HALF_REVISION, find_conversion
from inpaintrt_export.conversion.rounding import round_results
from inpaintrt_export.parity import TOLERANCES, Reference, compare_case, open_session
from inpaintrt_export.plans.profiles import make_profiles
from inpaintrt_export.plans.settings import BuildSettings
from inpaintrt_export.vae_precision import HALF_TOLERANCE, test_pictures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from inpaintrt.bundle import Manifest, Parity

__all__ = ["compare_networks", "example_inputs", "judge", "note_conversions", "vae_half_error"]

_SEED: Final = 20_240_301
_TIMESTEPS: Final = 1000
_SMALL: Final = BuildSettings("tensorrt-rtx", resolutions=((72, 56),), max_batch=1)


def note_conversions(folder: Path, scratch: Path, report: Callable[[str], None]) -> None:
    """Judge a float32 bundle's networks, unless that was done before, and write it into the manifest.

    Raises:
        ParityError: Half precision changes the text encoder's or the denoiser's results too much.
        ExportError: A graph cannot be converted.
    """
    manifest = load_manifest(folder)
    if not all(find_conversion(manifest, name) for name in manifest.components):
        conversions = judge(folder, manifest, scratch, report)
        save_manifest(msgspec.structs.replace(manifest, conversions=conversions), folder)


def judge(
    folder: Path, manifest: Manifest, scratch: Path, report: Callable[[str], None]
) -> tuple[Conversion, ...]:
    """Convert every component, and compare it with the bundle's own.

    Text encoder and denoiser must stand half precision; the two networks of a VAE that does not stay float32.

    Args:
        folder: A float32 bundle.
        manifest: Its manifest.
        scratch: The folder of its `HalfNetworks`, and of files that are needed meanwhile.
        report: Called with what is being done.

    Raises:
        ParityError: Half precision changes the text encoder's or the denoiser's results too much.
        ExportError: A graph cannot be converted.
    """
    conversions = []
    halves = HalfNetworks(folder, manifest, scratch)
    vae_error: float | None = None
    for name, component in manifest.components.items():
        report(f"{name}: converting to half precision")
        half = halves.path(name)
        report(f"{name}: comparing")
        parity = compare_networks(folder / component.file, half, manifest, name)
        good = parity.relative_error <= TOLERANCES["fp16"]
        if name.startswith("vae_"):
            vae_error = vae_half_error(folder, manifest, scratch) if vae_error is None else vae_error
            good = good and vae_error <= HALF_TOLERANCE
        elif not good:
            raise _refusal(name, parity)
        conversion = Conversion(
            component=name,
            precision="fp16" if good else "fp32",
            network_sha256=network_digest(manifest, name),
            revision=HALF_REVISION,
            parity=(parity,),
        )
        conversions.append(conversion)
    return tuple(conversions)


def _refusal(name: str, parity: Parity) -> ParityError:
    return ParityError(
        f"half precision changes the results of the {name} too much ({parity.case})",
        received=f"relative error {parity.relative_error:.2e}",
        expected=f"at most {TOLERANCES['fp16']:.0e}",
        hint="use --precision fp32",
    )


def compare_networks(own: Path, other: Path, manifest: Manifest, name: str) -> Parity:
    """How far another form of a component is from the bundle's own, on fresh inputs of a small size.

    Args:
        own: The bundle's own ONNX file.
        other: Another ONNX file with the same inputs, but for their precision.
        manifest: The bundle's manifest.
        name: The component's name.

    Raises:
        PlanBuildError: The component has an axis whose size is not known.
    """
    component = manifest.components[name]
    tokens = manifest.tokenizer.max_length
    shapes = make_profiles(name, component, manifest.architecture, tokens, _SMALL)[-1]
    inputs = example_inputs(manifest, name, shapes)
    output = _run(open_session(own, component.precision), inputs)
    case = ", ".join(f"{tensor} {'x'.join(map(str, shape))}" for tensor, shape in list(shapes.items())[:2])
    reference = Reference(case=case, inputs=inputs, output=output.astype(np.float32))
    return compare_case(open_session(other, "fp16"), reference)  # sparing, whatever the precision


def example_inputs(
    manifest: Manifest, name: str, shapes: dict[str, tuple[int, ...]]
) -> dict[str, NDArray[np.generic]]:
    """Random inputs of a component: Gaussian, or uniform for an input of integers.

    Args:
        manifest: The bundle's manifest.
        name: The component's name.
        shapes: The shape of every input.
    """
    tokenizer = manifest.tokenizer
    limits = {
        "input_ids": max(tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token) + 1,
        "clip_skip": manifest.architecture.text_layers or 1,
        "row_slot": shapes.get("state", (1,))[0],
        "timestep": _TIMESTEPS,
    }
    generator = np.random.default_rng(_SEED)
    return {
        tensor: (
            generator.integers(limits[tensor], size=shapes[tensor])
            if tensor in limits
            else generator.standard_normal(shapes[tensor])
        ).astype(spec.dtype)
        for tensor, spec in manifest.components[name].inputs.items()
    }


def vae_half_error(folder: Path, manifest: Manifest, scratch: Path) -> float:
    """What half precision does to test pictures that are encoded and decoded again.

    Returns:
        Root mean square difference of the decoded pictures in [-1, 1], or infinity where half precision
        overflows.
    """
    files = [folder / manifest.components[name].file for name in ("vae_encoder", "vae_decoder")]
    expected = _round_trip(files)
    decoded = _round_trip([_rounded(path, scratch) for path in files])
    if not np.isfinite(decoded).all():
        return float("inf")
    return float(np.sqrt(np.square(decoded - expected).mean()))


def _rounded(path: Path, scratch: Path) -> Path:
    model = ir.load(path)
    round_results(model)
    rounded = scratch / f"{path.parent.name}-rounded" / path.name
    save_model(model, rounded)
    return rounded


def _round_trip(files: list[Path]) -> NDArray[np.floating]:
    encoder, decoder = files
    parameters = _run(open_session(encoder, "fp32"), {"sample": test_pictures().numpy()})
    latents = np.split(parameters, 2, axis=1)[0]
    return _run(open_session(decoder, "fp32"), {"latent_sample": latents})


def _run(session: InferenceSession, inputs: dict[str, NDArray[np.generic]]) -> NDArray[np.floating]:
    output: NDArray[np.floating] = session.run(None, inputs)[0]
    return output
