"""The precision check: is half precision good enough for a bundle's networks?"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import onnx_ir as ir

from inpaintrt.bundle import PRECISIONS, TINY_VAE, VAE, add_builds, load_manifest
from inpaintrt.errors import ParityError
from inpaintrt_export.graphs.files import save_model
from inpaintrt_export.graphs.inputs import axis_sizes, input_shapes, random_inputs
from inpaintrt_export.parity import Reference, compare_case, open_session
from inpaintrt_export.precision.conversions import describe_half, find_conversion
from inpaintrt_export.precision.halves import HalfNetworks
from inpaintrt_export.precision.rounding import round_results
from inpaintrt_export.precision.vae import HALF_TOLERANCE, test_images

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from inpaintrt.bundle import Build, Manifest, Parity

__all__ = ["check_half_precision", "compare_networks", "record_conversions", "vae_half_error"]

_TOLERANCE: Final = PRECISIONS["fp16"].tolerance
_SMALL: Final = (9, 7)
"""Height and width in latent pixels of the image that networks are compared at."""
_ROWS: Final = 2


def record_conversions(folder: Path, scratch: Path, report: Callable[[str], None]) -> None:
    """Check what half precision does to a float32 bundle's networks, and write that into the manifest.

    What was checked before is not checked again.

    Raises:
        ParityError: Half precision changes the text encoder's or the denoiser's results too much.
        ExportError: A graph cannot be converted.
    """
    manifest = load_manifest(folder)
    if not all(find_conversion(manifest, name) for name in manifest.exported):
        add_builds(folder, *check_half_precision(folder, manifest, scratch, report))


def check_half_precision(
    folder: Path, manifest: Manifest, scratch: Path, report: Callable[[str], None]
) -> tuple[Build, ...]:
    """Convert every component to half precision, and compare it with the bundle's own.

    Text encoder and denoiser must be accurate enough; the two networks of a VAE that is not stay float32.

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
    vae_error = lru_cache(partial(vae_half_error, folder, manifest, scratch))
    for name, exported in manifest.exported.items():
        report(f"{name}: converting to half precision")
        half = halves.path(name)
        report(f"{name}: comparing")
        parity = compare_networks(folder / exported.file, half, manifest, name)
        accepted = parity.relative_error <= _TOLERANCE
        if name in (*VAE, *TINY_VAE):
            accepted = accepted and vae_error(TINY_VAE if name in TINY_VAE else VAE) <= HALF_TOLERANCE
        elif not accepted:
            raise _refusal(name, parity)
        measured = (parity,) if np.isfinite(parity.relative_error) else ()  # JSON has no infinity
        half_network = describe_half(manifest, name)
        conversions.append(msgspec.structs.replace(half_network, accepted=accepted, parity=measured))
    return tuple(conversions)


def _refusal(name: str, parity: Parity) -> ParityError:
    return ParityError(
        f"half precision changes the results of the {name} too much ({parity.case})",
        received=f"relative error {parity.relative_error:.2e}",
        expected=f"at most {_TOLERANCE:.0e}",
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
    exported = manifest.exported[name]
    factor, tokens = manifest.architecture.vae_scale_factor, manifest.window
    height, width = _SMALL
    sizes = axis_sizes(name, (height * factor, width * factor), factor, tokens, rows=_ROWS)
    shapes = input_shapes(exported, sizes)
    inputs = random_inputs(manifest, name, shapes)
    outputs = open_session(own, sparing=exported.precision != "fp32").run(None, inputs)
    case = ", ".join(f"{tensor} {'x'.join(map(str, shape))}" for tensor, shape in list(shapes.items())[:2])
    reference = Reference(case, inputs, tuple(output.astype(np.float32) for output in outputs))
    return compare_case(open_session(other, sparing=True), reference)


def vae_half_error(folder: Path, manifest: Manifest, scratch: Path, vae: tuple[str, str] = VAE) -> float:
    """What half precision does to test images that are encoded and decoded again.

    Args:
        folder: A float32 bundle.
        manifest: Its manifest.
        scratch: A folder for files that are needed meanwhile.
        vae: The components, encoder and decoder.

    Returns:
        Root mean square difference of the decoded images in [-1, 1], or infinity where half precision
        overflows.
    """
    files = [folder / manifest.exported[name].file for name in vae]
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
    session = open_session(encoder)
    encoded = _run(session, {"sample": test_images().numpy()})
    has_posterior = session.get_outputs()[0].name == "latent_parameters"
    latents = np.split(encoded, 2, axis=1)[0] if has_posterior else encoded
    return _run(open_session(decoder), {"latent_sample": latents})


def _run(session: InferenceSession, inputs: dict[str, NDArray[np.generic]]) -> NDArray[np.floating]:
    output: NDArray[np.floating] = session.run(None, inputs)[0]
    return output
